// What the HBONE tests share: certificates, sinks that remember, and pairs of a client and a server on loopback.

import { createPrivateKey } from 'node:crypto';
import net from 'node:net';
import { type Clock, systemClock } from '#base/clock.ts';
import { Scope } from '#base/scope.ts';
import { openClientSession } from '#hbone/client.ts';
import type {
  HbonePool,
  HboneRequest,
  HboneServer,
  HboneStream,
  HboneTunnel,
  PoolKey,
  StreamOutcome,
  StreamSink,
} from '#hbone/hbone.ts';
import { createHbonePool, type HbonePoolLimits } from '#hbone/pool.ts';
import { createHboneServer, type HboneServerLimits } from '#hbone/server.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { Port, SocketAddress } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { silentLogger } from '#telemetry/log.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';
import type { TlsPolicy } from '#tls/options.ts';
import type { Revocations } from '#tls/revocation.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { readWorkloadSecret } from '#tls/workload-certificate.ts';
import { openNodeSession } from './node-http2/client.ts';
import { createNodeServer } from './node-http2/server.ts';

export const CLIENT_ID = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId;
export const SERVER_ID = 'spiffe://cluster.local/ns/shop/sa/cart' as SpiffeId;
export const LOOPBACK = ip('127.0.0.1');

/** One implementation of both ends. */
export interface Implementation {
  readonly openSession: typeof openClientSession;
  readonly createServer: typeof createHboneServer;
}

export const OURS: Implementation = { openSession: openClientSession, createServer: createHboneServer };
/** The oracle. */
export const NODE_HTTP2: Implementation = { openSession: openNodeSession, createServer: createNodeServer };

export const newAuthority = (): Promise<Authority> =>
  createAuthority({ organization: 'cluster.local', validDays: 1 });

/** A certificate that was really issued; `roots` replaces the anchors its holder trusts. */
export async function newSecret(
  authority: Authority,
  identity: SpiffeId,
  roots = authority.certPem,
  intermediates: readonly string[] = [],
  tls?: TlsPolicy,
): Promise<WorkloadSecret> {
  const { certPem, keyPem } = await authority.issue({ uris: [identity], validForMs: 3_600_000 });
  const answer = [certPem, ...intermediates, roots];
  return readWorkloadSecret(identity, createPrivateKey(keyPem ?? ''), answer, silentLogger, tls);
}

/** For both ends, of one authority. */
export async function newSecrets(): Promise<{
  readonly server: WorkloadSecret;
  readonly client: WorkloadSecret;
}> {
  const authority = await newAuthority();
  const [server, client] = await Promise.all(
    [SERVER_ID, CLIENT_ID].map((identity) => newSecret(authority, identity)),
  );
  return { server: server!, client: client! };
}

/** Remembers what a stream delivered. */
export class RecordingSink implements StreamSink {
  readonly chunks: Uint8Array[] = [];
  bytes = 0;
  drains = 0;
  ended = false;
  outcome: StreamOutcome | undefined;
  readonly order: string[] = [];

  data(chunk: Uint8Array): void {
    this.chunks.push(Buffer.from(chunk));
    this.bytes += chunk.length;
    if (this.order.at(-1) !== 'data') this.order.push('data');
  }
  drain(): void {
    this.drains += 1;
  }
  end(): void {
    this.ended = true;
    this.order.push('end');
  }
  close(outcome: StreamOutcome): void {
    if (this.outcome !== undefined) throw new Error('closed twice');
    this.outcome = outcome;
    this.order.push('close');
  }
  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }
}

export function record(stream: HboneStream): RecordingSink {
  const sink = new RecordingSink();
  stream.attach(sink);
  return sink;
}

/** Sends back what comes, with back-pressure and half-close. */
export function echo(stream: HboneStream): void {
  stream.attach({
    data: (chunk) => {
      if (!stream.write(chunk)) stream.pause();
    },
    drain: () => stream.resume(),
    end: () => stream.end(),
    close: () => {},
  });
}

export interface Refusal {
  readonly code: string;
  readonly reason: string;
  readonly address: SocketAddress;
}

export interface TestServer {
  readonly server: HboneServer;
  readonly address: SocketAddress;
  readonly requests: HboneRequest[];
  readonly refusals: Refusal[];
  /** TCP connections so far. */
  connections(): number;
}

export interface TestServerOptions {
  readonly secret: () => Promise<WorkloadSecret>;
  readonly onRequest?: (request: HboneRequest) => void;
  readonly limits?: HboneServerLimits;
  readonly createServer?: typeof createHboneServer;
  readonly revocations?: Revocations;
}

export async function startServer(scope: Scope, options: TestServerOptions): Promise<TestServer> {
  const requests: HboneRequest[] = [];
  const refusals: Refusal[] = [];
  let connections = 0;
  const server = (options.createServer ?? createHboneServer)(
    {
      secret: options.secret,
      onRequest: (request) => {
        requests.push(request);
        options.onRequest?.(request);
      },
      onRefusedPeer: ({ code, message }, address) => refusals.push({ code, reason: message, address }),
      log: silentLogger,
      scope,
      revocations: options.revocations,
    },
    options.limits,
  );
  const address = await listen(scope, (socket) => {
    connections += 1;
    server.accept(socket);
  });
  return { server, address, requests, refusals, connections: () => connections };
}

export async function listen(scope: Scope, onSocket: (socket: net.Socket) => void): Promise<SocketAddress> {
  const sockets = new Set<net.Socket>();
  const listener = net.createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
    onSocket(socket);
  });
  scope.onClose(() => {
    listener.close();
    for (const socket of sockets) socket.destroy();
  });
  await new Promise<void>((resolve) => listener.listen(0, LOOPBACK, resolve));
  return { ip: LOOPBACK, port: (listener.address() as net.AddressInfo).port as Port };
}

/** As the node proxy dials: half-open sockets, which the session must not mind. */
export const dial = (destination: SocketAddress): Promise<net.Socket> => dialTcp(destination, true);

export function dialTcp({ ip: host, port }: SocketAddress, allowHalfOpen: boolean): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port, noDelay: true, allowHalfOpen });
    socket.on('error', reject);
    socket.once('connect', () => resolve(socket));
  });
}

export function newPool(
  scope: Scope,
  secret: () => Promise<WorkloadSecret>,
  limits?: HbonePoolLimits,
  clock: Clock = systemClock,
  openSession = openClientSession,
  revocations?: Revocations,
): HbonePool {
  const deps = { dial, secret, log: silentLogger, scope, clock, openSession, revocations };
  return createHbonePool(deps, limits);
}

export function keyFor(destination: SocketAddress, over: Partial<PoolKey> = {}): PoolKey {
  return { source: CLIENT_ID, expected: [SERVER_ID], destination, downstreamIp: '10.244.1.2', ...over };
}

/** One end's connect, whatever stands behind it. */
export interface TestClient {
  connect(authority: string, headers?: Record<string, string>): Promise<HboneTunnel>;
}

/** A client and a server of some implementation that trust each other. */
export interface Pair extends TestServer {
  readonly client: TestClient;
  readonly pool: HbonePool;
}

export async function startPair(
  scope: Scope,
  onRequest: (request: HboneRequest) => void,
  options: {
    readonly server?: HboneServerLimits;
    readonly pool?: HbonePoolLimits;
    /** Client, server. */
    readonly ends?: readonly [Implementation, Implementation];
  } = {},
): Promise<Pair> {
  const [near, far] = options.ends ?? [OURS, OURS];
  const { server: serverSecret, client: clientSecret } = await newSecrets();
  const running = await startServer(scope, {
    secret: async () => serverSecret,
    onRequest,
    createServer: far.createServer,
    ...(options.server === undefined ? {} : { limits: options.server }),
  });
  const pool = newPool(scope, async () => clientSecret, options.pool, systemClock, near.openSession);
  const key = keyFor(running.address);
  return {
    ...running,
    pool,
    client: { connect: (target, headers = {}) => pool.connect(key, target, headers) },
  };
}

/** Runs a test body in a scope of its own that is closed whatever happens. */
export function scoped(body: (scope: Scope) => Promise<void>): () => Promise<void> {
  return async () => {
    const scope = new Scope('test');
    try {
      await body(scope);
    } finally {
      scope.close();
    }
  };
}
