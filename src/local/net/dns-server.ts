// The cluster's DNS server on UDP and TCP (RFC 1035). Answers for the cluster's own zone; other names do not exist here,
// because local mode has no way to the outside.

import { createSocket } from 'node:dgram';
import { createServer, isIPv6, type Socket } from 'node:net';
import { decode, encode, type Packet, streamEncode } from 'dns-packet';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Informer } from '#k8s/informer.ts';
import type { EndpointSlice, Namespace, Service } from '#k8s/objects.ts';
import type { Logger } from '#telemetry/log.ts';
import { type DnsRecord, lookup, START_OF_AUTHORITY, TTL_S, type ZoneSource } from './dns-records.ts';
import { SERVICE_NAME_LABEL } from './service-targets.ts';

/** Without EDNS a UDP answer holds 512 bytes (RFC 1035 §2.3.4); larger ones are cut and asked again over TCP. */
const UDP_LIMIT_BYTES = 512;
/** What we send at most to a client that takes more (EDNS, RFC 6891): the nodes' links carry it in one piece. */
const EDNS_LIMIT_BYTES = 1232;
const BADVERS_EXTENDED = 1;
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

/** The answer to one query with the client's EDNS record answered; undefined for what is no query (no answer is sent then). */
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
  const edns = ednsOf(packet);
  if (edns !== undefined && edns.ednsVersion !== 0)
    return { ...reply(packet, NOERROR), additionals: [ourEdns(BADVERS_EXTENDED)] };
  const found = answerQuestion(packet, { zone, log });
  return edns === undefined ? found : { ...found, additionals: [...(found.additionals ?? []), ourEdns(0)] };
}

type Edns = Extract<NonNullable<Packet['additionals']>[number], { type: 'OPT' }>;

const ednsOf = ({ additionals = [] }: Packet): Edns | undefined =>
  additionals.find((record): record is Edns => record.type === 'OPT');

function ourEdns(extendedRcode: number): Edns {
  return {
    type: 'OPT',
    name: '.',
    udpPayloadSize: EDNS_LIMIT_BYTES,
    extendedRcode,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
}

/** How many bytes of an answer this client takes over UDP. */
function udpLimitOf(query: Packet): number {
  const { udpPayloadSize = UDP_LIMIT_BYTES } = ednsOf(query) ?? {};
  return Math.min(Math.max(udpPayloadSize, UDP_LIMIT_BYTES), EDNS_LIMIT_BYTES);
}

function answerQuestion(packet: Packet, { zone, log }: DnsDeps): Packet {
  const [question] = packet.questions ?? [];
  if (question === undefined || packet.questions?.length !== 1) return reply(packet, FORMERR);
  const found = lookup(question.name, question.type, zone);
  switch (found.kind) {
    case 'outside':
      log.debug('a name outside the cluster was asked for', { name: question.name, type: question.type });
      // Not REFUSED: resolvers take that for a broken server, try again, and report a passing failure.
      return reply(packet, NXDOMAIN);
    case 'no-such-name':
      return {
        ...reply(packet, NXDOMAIN | AUTHORITATIVE_ANSWER),
        authorities: [withTtl(START_OF_AUTHORITY)],
      };
    case 'found':
      return {
        ...reply(packet, NOERROR | AUTHORITATIVE_ANSWER),
        answers: spread(found.answers).map(withTtl),
        additionals: found.additionals.map(withTtl),
        authorities: found.answers.length === 0 ? [withTtl(START_OF_AUTHORITY)] : [],
      };
  }
}

type Answers = NonNullable<Packet['answers']>;

function withTtl(record: DnsRecord): Answers[number] {
  return { ...record, ttl: TTL_S } as Answers[number];
}

/** Clients take the first address: a headless service spreads only if the order changes. An alias stays in front. */
function spread(answers: readonly DnsRecord[]): DnsRecord[] {
  const aliases = answers.filter(({ type }) => type === 'CNAME');
  return [...aliases, ...shuffled(answers.filter(({ type }) => type !== 'CNAME'))];
}

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

  const udp = createSocket(isIPv6(options.host) ? 'udp6' : 'udp4');
  udp.on('message', (query, from) => {
    const packet = answer(query, deps);
    if (packet === undefined) return;
    let bytes = encode(packet);
    // An answer of that size is none to a query that cannot be read.
    if (bytes.length > UDP_LIMIT_BYTES && bytes.length > udpLimitOf(decode(query))) {
      const { answers: _answers, additionals = [], ...head } = packet;
      const edns = additionals.filter(({ type }) => type === 'OPT');
      bytes = encode({ ...head, flags: (packet.flags ?? 0) | TRUNCATED, additionals: edns });
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
export function zoneOf(
  services: Informer<Service>,
  slices: Informer<EndpointSlice>,
  namespaces: Informer<Namespace>,
): ZoneSource {
  return {
    service: (namespace, name) => services.get(`${namespace}/${name}`),
    slices: (namespace, service) =>
      [...slices.all()].filter(
        ({ metadata }) =>
          metadata.namespace === namespace && metadata.labels?.[SERVICE_NAME_LABEL] === service,
      ),
    hasNamespace: (namespace) => namespaces.get(namespace) !== undefined,
    allServices: () => services.all(),
  };
}
