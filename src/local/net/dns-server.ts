// The cluster's DNS server on UDP and TCP (RFC 1035). Answers for the cluster's own zone; other names do not exist here,
// because local mode has no way to the outside.

import { createSocket } from 'node:dgram';
import { createServer, type Socket } from 'node:net';
import { decode, encode, type Packet, streamEncode } from 'dns-packet';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Informer } from '#k8s/informer.ts';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import { CLUSTER_DOMAIN } from '#local/machine/plan.ts';
import type { Logger } from '#telemetry/log.ts';
import { type DnsRecord, lookup, type ZoneSource } from './dns-records.ts';
import { SERVICE_NAME_LABEL } from './service-targets.ts';

const TTL_S = 5;
/** Without EDNS a UDP answer holds 512 bytes (RFC 1035 §2.3.4); larger ones are cut and asked again over TCP. */
const UDP_LIMIT_BYTES = 512;
const TCP_IDLE_MS = 10_000;
const TCP_MAX_CONNECTIONS = 200;
const AUTHORITATIVE_ANSWER = 1 << 10;
const TRUNCATED = 1 << 9;
const RECURSION_DESIRED = 1 << 8;
const NOERROR = 0;
const FORMERR = 1;
const NXDOMAIN = 3;
const NOTIMP = 4;

export interface DnsDeps {
  readonly zone: ZoneSource;
  readonly log: Logger;
}

export interface DnsServer {
  readonly port: number;
  close(): Promise<void>;
}

/** The answer to one query; undefined for what is no query (no answer is sent then). */
export function answer(query: Buffer, { zone, log }: DnsDeps): Packet | undefined {
  let packet: Packet;
  try {
    packet = decode(query);
  } catch {
    return query.length < 12 ? undefined : reply({ id: query.readUInt16BE(0) }, FORMERR);
  }
  if (packet.type !== 'query') return undefined;
  // The kind of query is in the flags (opcode, bits 11-14): only plain ones are served.
  if ((((packet.flags ?? 0) >> 11) & 0xf) !== 0) return reply(packet, NOTIMP);
  const [question] = packet.questions ?? [];
  if (question === undefined || packet.questions?.length !== 1) return reply(packet, FORMERR);
  const found = lookup(question.name, question.type, zone);
  switch (found.kind) {
    case 'outside':
      log.debug('a name outside the cluster was asked for', { name: question.name, type: question.type });
      // Not REFUSED: resolvers take that for a broken server, try again, and report a passing failure.
      return reply(packet, NXDOMAIN);
    case 'no-such-name':
      return { ...reply(packet, NXDOMAIN | AUTHORITATIVE_ANSWER), authorities: [startOfAuthority()] };
    case 'found':
      return {
        ...reply(packet, NOERROR | AUTHORITATIVE_ANSWER),
        answers: shuffled(found.answers).map(withTtl),
        additionals: found.additionals.map(withTtl),
        authorities: found.answers.length === 0 ? [startOfAuthority()] : [],
      };
  }
}

type Answers = NonNullable<Packet['answers']>;

function withTtl(record: DnsRecord): Answers[number] {
  return { ...record, ttl: TTL_S } as Answers[number];
}

/** Clients take the first address: a headless service spreads only if the order changes. */
function shuffled<T>(items: readonly T[]): T[] {
  const copy = [...items];
  for (let last = copy.length - 1; last > 0; last--) {
    const pick = Math.floor(Math.random() * (last + 1));
    [copy[last], copy[pick]] = [copy[pick] as T, copy[last] as T];
  }
  return copy;
}

function reply(query: Packet, flags: number): Packet {
  return {
    type: 'response',
    id: query.id ?? 0,
    flags: flags | ((query.flags ?? 0) & RECURSION_DESIRED),
    questions: query.questions ?? [],
  };
}

/** Tells resolvers how long a missing name may be remembered (RFC 2308). */
function startOfAuthority(): Answers[number] {
  return {
    type: 'SOA',
    name: CLUSTER_DOMAIN,
    ttl: TTL_S,
    data: {
      mname: `ns.dns.${CLUSTER_DOMAIN}`,
      rname: `hostmaster.${CLUSTER_DOMAIN}`,
      serial: 1,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: TTL_S,
    },
  };
}

/** @throws MeshError PORT_IN_USE or LOCAL_MACHINE_FAILED. */
export async function startDnsServer(
  deps: DnsDeps,
  options: { readonly host: string; readonly port: number },
): Promise<DnsServer> {
  const { log } = deps;
  const tcp = createServer((socket) => serveTcp(socket, deps));
  tcp.maxConnections = TCP_MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    tcp.once('error', (error) =>
      reject(MeshError.from(error, 'LOCAL_MACHINE_FAILED', 'the DNS server cannot listen (TCP)')),
    );
    tcp.listen(options.port, options.host, resolve);
  });
  const bound = tcp.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : options.port;

  const udp = createSocket('udp4');
  udp.on('message', (query, from) => {
    const packet = answer(query, deps);
    if (packet === undefined) return;
    let bytes = encode(packet);
    if (bytes.length > UDP_LIMIT_BYTES) {
      const { answers: _answers, additionals: _additionals, ...head } = packet;
      bytes = encode({ ...head, flags: (packet.flags ?? 0) | TRUNCATED });
    }
    udp.send(bytes, from.port, from.address, (error) => {
      if (error !== null) log.debug('a DNS answer was not sent', { error: reasonOf(error) });
    });
  });
  await new Promise<void>((resolve, reject) => {
    udp.once('error', (error) =>
      reject(MeshError.from(error, 'LOCAL_MACHINE_FAILED', 'the DNS server cannot listen (UDP)')),
    );
    udp.bind(port, options.host, resolve);
  });
  udp.on('error', (error) => log.warn('DNS socket', { error: reasonOf(error) }));

  return {
    port,
    close: async () => {
      await Promise.all([
        new Promise<void>((resolve) => udp.close(() => resolve())),
        new Promise<void>((resolve) => tcp.close(() => resolve())),
      ]);
    },
  };
}

/** Messages with a two-byte length before each (RFC 1035 §4.2.2), several per connection. */
function serveTcp(socket: Socket, deps: DnsDeps): void {
  let held: Buffer = Buffer.alloc(0);
  socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
  socket.on('error', () => {}); // the client went away; close follows
  socket.on('data', (chunk: Buffer) => {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
      const length = held.readUInt16BE(0);
      const packet = answer(held.subarray(2, 2 + length), deps);
      held = held.subarray(2 + length);
      if (packet === undefined) {
        socket.destroy();
        return;
      }
      socket.write(streamEncode(packet));
    }
  });
}

/** The zone as informers hold it. */
export function zoneOf(services: Informer<Service>, slices: Informer<EndpointSlice>): ZoneSource {
  return {
    service: (namespace, name) => services.get(`${namespace}/${name}`),
    slices: (namespace, service) =>
      [...slices.all()].filter(
        ({ metadata }) =>
          metadata.namespace === namespace && metadata.labels?.[SERVICE_NAME_LABEL] === service,
      ),
    hasNamespace: (namespace) => [...services.all()].some(({ metadata }) => metadata.namespace === namespace),
  };
}
