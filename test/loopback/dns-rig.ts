// The DNS proxy on real sockets of 127.0.0.1 without namespaces, and servers it may ask that do as they are told.

import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { type DecodedPacket, decode, encode, type Packet, type RecordType } from 'dns-packet';
import { systemClock } from '#base/clock.ts';
import { createPendingBudget, type PendingBudget } from '#dns/budget.ts';
import type { DnsCounters } from '#dns/observe.ts';
import { serveDns } from '#dns/server.ts';
import type { DnsSockets } from '#dns/sockets.ts';
import { framed } from '#dns/tcp-exchange.ts';
import { createStore, type Store } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import type { Port, SocketAddress } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { createLogger } from '#telemetry/log.ts';

const HOST = '127.0.0.1';

export interface TestDns {
  readonly port: number;
  readonly store: Store;
  readonly lines: string[];
  readonly counted: string[];
  readonly budget: PendingBudget;
  /** Sockets towards other servers that are open. */
  readonly upstreamSockets: () => number;
  close(): void;
}

export interface TestDnsOptions {
  readonly client: { current(): Workload | undefined; get(): Promise<Workload> };
  readonly servers: readonly SocketAddress[];
  readonly budget?: PendingBudget;
  readonly timeoutMs?: number;
  readonly attempts?: number;
}

export async function startDns(options: TestDnsOptions): Promise<TestDns> {
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true }).listen(0, HOST);
  await once(listener, 'listening');
  const { port } = listener.address() as net.AddressInfo;
  const datagram = dgram.createSocket('udp4').bind(port, HOST);
  await once(datagram, 'listening');
  const upstream = new Set<dgram.Socket | net.Socket>();
  const tracked = <T extends dgram.Socket | net.Socket>(socket: T): T => {
    upstream.add(socket);
    socket.on('close', () => upstream.delete(socket));
    return socket;
  };
  let isClosed = false;
  const sockets: DnsSockets = {
    datagrams: [datagram],
    listeners: [listener],
    udp: () => tracked(dgram.createSocket('udp4')),
    tcp: (server) => tracked(net.connect({ host: server.ip, port: server.port })),
    close: () => {
      if (isClosed) return;
      isClosed = true;
      datagram.close();
      listener.close();
    },
  };
  const lines: string[] = [];
  const counted: string[] = [];
  const counters: DnsCounters = {
    requested: ({ type, protocol, client }) =>
      counted.push(`requested ${type} ${protocol} ${client?.canonicalName}`),
    forwarded: ({ type, protocol }) => counted.push(`forwarded ${type} ${protocol}`),
    forwardEnded: ({ type }, durationMs, isFailed) =>
      counted.push(`ended ${type} ${durationMs >= 0} ${isFailed ? 'failed' : 'well'}`),
  };
  const store = createStore({ localNode: 'n1' });
  const budget = options.budget ?? createPendingBudget();
  const { servers, timeoutMs = 5000, attempts = 2 } = options;
  const server = serveDns(
    {
      view: store,
      client: options.client,
      sockets,
      resolvers: { servers, timeoutMs, attempts, rotate: false },
      budget,
      counters,
      log: createLogger('dns', { format: 'plain', level: 'debug', write: (line) => lines.push(line) }),
      clock: systemClock,
      random: Math.random,
    },
    { clusterDomain: 'cluster.local', preferredNamespace: undefined, ipv6: true },
  );
  return {
    port,
    store,
    lines,
    counted,
    budget,
    upstreamSockets: () => upstream.size,
    close: () => server.close(),
  };
}

export interface Upstream {
  readonly address: SocketAddress;
  readonly asked: { readonly name: string; readonly protocol: 'udp' | 'tcp'; readonly bytes: Buffer }[];
  close(): void;
}

/** What a server sends for a query: any number of messages, in order. */
export type Behaviour = (query: DecodedPacket, protocol: 'udp' | 'tcp') => readonly Buffer[];

export function response(query: DecodedPacket, more: Partial<Packet> = {}): Buffer {
  const flags = ((query.flags ?? 0) & (1 << 8)) | (more.flags ?? 0);
  return encode({ type: 'response', id: query.id ?? 0, questions: query.questions ?? [], ...more, flags });
}

export const oneAddress: Behaviour = (query) => [
  response(query, {
    answers: [{ type: 'A', name: query.questions?.[0]?.name ?? '', ttl: 7, data: '192.0.2.1' }],
  }),
];

export async function startUpstream(behaviour: Behaviour): Promise<Upstream> {
  const asked: Upstream['asked'] = [];
  const answersTo = (bytes: Buffer, protocol: 'udp' | 'tcp'): readonly Buffer[] => {
    const query = decode(bytes);
    asked.push({ name: query.questions?.[0]?.name ?? '', protocol, bytes: Buffer.from(bytes) });
    return behaviour(query, protocol);
  };
  const open = new Set<net.Socket>();
  const listener = net.createServer((socket) => {
    open.add(socket);
    socket.on('error', () => {});
    readMessages(socket, (bytes) => {
      for (const answer of answersTo(bytes, 'tcp')) socket.write(framed(answer));
    });
  });
  listener.listen(0, HOST);
  await once(listener, 'listening');
  const { port } = listener.address() as net.AddressInfo;
  const datagram = dgram.createSocket('udp4').bind(port, HOST);
  await once(datagram, 'listening');
  datagram.on('message', (bytes, from) => {
    for (const answer of answersTo(bytes, 'udp')) datagram.send(answer, from.port, from.address);
  });
  return {
    address: { ip: ip(HOST), port: port as Port },
    asked,
    close: () => {
      datagram.close();
      listener.close();
      for (const socket of open) socket.destroy();
    },
  };
}

/** A port where nobody listens, with either protocol. */
export async function nobody(): Promise<SocketAddress> {
  const upstream = await startUpstream(() => []);
  upstream.close();
  return upstream.address;
}

export function readMessages(socket: net.Socket, onMessage: (bytes: Buffer) => void): void {
  let held: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
      const end = 2 + held.readUInt16BE(0);
      onMessage(Buffer.from(held.subarray(2, end)));
      held = held.subarray(end);
    }
  });
}

export function query(name: string, type: RecordType = 'A', more: Partial<Packet> = {}): Buffer {
  return encode({ type: 'query', id: 77, flags: 1 << 8, questions: [{ name, type }], ...more });
}

/** The types of dns-packet leave the code out that it decodes. */
export type Answer = DecodedPacket & { readonly rcode: string };
export const decodeAnswer = (bytes: Buffer): Answer => decode(bytes) as Answer;

/** Sends one datagram and resolves with the answer to it. */
export async function askUdp(port: number, message: Buffer): Promise<Answer> {
  const socket = dgram.createSocket('udp4');
  try {
    socket.send(message, port, HOST);
    const [bytes] = (await once(socket, 'message')) as [Buffer];
    return decodeAnswer(bytes);
  } finally {
    socket.close();
  }
}

/** One connection; resolves when as many answers as messages have come, in the order of their arrival. */
export async function askTcp(port: number, messages: readonly Buffer[]): Promise<Answer[]> {
  const socket = net.connect(port, HOST);
  const answers: Answer[] = [];
  const done = Promise.withResolvers<void>();
  socket.on('error', done.reject);
  socket.on('close', () => done.reject(new Error(`closed after ${answers.length} answers`)));
  readMessages(socket, (bytes) => {
    answers.push(decodeAnswer(bytes));
    if (answers.length === messages.length) done.resolve();
  });
  socket.write(Buffer.concat(messages.map(framed)));
  try {
    await done.promise;
    return answers;
  } finally {
    socket.destroy();
  }
}
