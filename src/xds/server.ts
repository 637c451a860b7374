// The delta xDS server (control-plane.md §4): gRPC over TLS, any number of resource types, any further services beside it.
// Which response a client gets is subscription.ts; this file owns sockets, authentication, debouncing and the client list.

import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { cpus } from 'node:os';
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { sleep } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import {
  type DeltaRequestMessage,
  type DeltaResponseMessage,
  deltaDiscoveryService,
  deltaRequestFrom,
  deltaResponseTo,
} from '#proto/discovery.ts';
import type { Logger } from '#telemetry/log.ts';
import { ClientStream, type ClientStreamDeps, type XdsClientInfo } from './client-stream.ts';
import { type DebounceOptions, debounce } from './debounce.ts';
import type { Caller, ResourceSource } from './source.ts';

export interface XdsServerDeps {
  /** In the order in which their changes are pushed. */
  readonly sources: readonly ResourceSource[];
  /** Rejects when nobody can be recognised; the client sees `Unauthenticated` and the reason. */
  readonly authenticate: (headers: Headers) => Promise<Caller>;
  readonly log: Logger;
  /** Further services on the same port, such as the certificate authority's. */
  readonly register?: (router: ConnectRouter) => void;
  readonly observe?: ClientStreamDeps['observe'] & { push?(names: number): void };
}

export interface ServingCertificate {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface XdsServerOptions {
  readonly listen: { readonly host: string; readonly port: number } | { readonly fd: number };
  readonly tls: ServingCertificate;
  /** 100 ms of quiet, 10 s at most, unless told otherwise. */
  readonly debounce?: DebounceOptions;
  readonly maxPendingNames?: number;
  readonly identityCheck?: boolean;
  /** New streams a second (`PILOT_MAX_REQUESTS_PER_SECOND`). */
  readonly newStreamsPerSecond?: number;
  readonly keepaliveIntervalMs?: number;
  readonly keepaliveTimeoutMs?: number;
}

export interface XdsServer {
  readonly port: number;
  /** For new connections; established ones keep theirs. */
  setCertificate(certificate: ServingCertificate): void;
  clients(): readonly XdsClientInfo[];
  /** Streams end with Unavailable, so that clients go elsewhere at once. */
  close(): Promise<void>;
}

const DEFAULT_DEBOUNCE: DebounceOptions = { quietMs: 100, maxMs: 10_000 };
const MAX_PENDING_NAMES = 65_536;
/** A reconnecting client sends a name and version for everything it holds. */
const MAX_REQUEST_BYTES = 64 << 20;
const MAX_STREAM_WAIT_MS = 1000;
const CLOSE_MS = 500;
/** Between a status that a client ought to read and the reset that it cannot ignore. */
const CUT_OFF_MS = 1000;

const httpStream = createContextKey<http2.ServerHttp2Stream | undefined>(undefined);
const MAX_STREAMS_PER_SESSION = 100;

/** Resolves once the port is open. */
export async function startXdsServer(deps: XdsServerDeps, options: XdsServerOptions): Promise<XdsServer> {
  const { log, observe } = deps;
  const scope = new Scope('xds server');
  const streams = new Map<ClientStream, http2.ServerHttp2Stream | undefined>();
  let pushes = 0;
  let nextId = 0;
  let version = versionOf(pushes);

  const onChange = debounce(scope, options.debounce ?? DEFAULT_DEBOUNCE, (changed) => {
    version = versionOf(++pushes);
    let names = 0;
    for (const set of changed.values()) names += set.size;
    observe?.push?.(names);
    log.debug('xDS push', { names, clients: streams.size });
    for (const stream of streams.keys()) stream.onChange(changed);
  });
  for (const source of deps.sources)
    scope.onClose(source.onChange((names) => onChange(source.typeUrl, names)));

  const streamDeps: ClientStreamDeps = {
    sources: deps.sources,
    log,
    version: () => version,
    cutOff: (stream) => {
      scope.timeout(CUT_OFF_MS, () => {
        // CANCEL: the client comes back at once (ztunnel.md §3.5).
        if (streams.has(stream)) streams.get(stream)?.close(http2.constants.NGHTTP2_CANCEL);
      });
    },
    ...(observe === undefined ? {} : { observe }),
  };
  const streamOptions = {
    maxPendingNames: options.maxPendingNames ?? MAX_PENDING_NAMES,
    identityCheck: options.identityCheck ?? true,
  };
  const admit = rateLimit(options.newStreamsPerSecond ?? Math.min(15 + 5 * cpus().length, 100));

  async function* deltaResources(
    requests: AsyncIterable<DeltaRequestMessage>,
    context: HandlerContext,
  ): AsyncGenerator<DeltaResponseMessage> {
    await admit(context.signal);
    const caller = await authenticated(deps, context.requestHeader);
    const stream = new ClientStream(nextId++, caller, streamDeps, streamOptions);
    streams.set(stream, context.values.get(httpStream));
    const onAbort = (): void => {
      // Here as well as below: a write that waits for a closed stream never comes back to the generator.
      streams.delete(stream);
      stream.end();
    };
    context.signal.addEventListener('abort', onAbort, { once: true });
    if (context.signal.aborted) onAbort();
    read(requests, stream).catch((error: unknown) => stream.end(ConnectError.from(error)));
    try {
      for await (const response of stream.responses()) {
        if (context.signal.aborted) return;
        yield deltaResponseTo(response);
      }
    } finally {
      context.signal.removeEventListener('abort', onAbort);
      streams.delete(stream);
      stream.end();
      log.debug('xDS client gone', { node: stream.info().node ?? '' });
    }
  }

  const handle = connectNodeAdapter({
    grpc: true,
    grpcWeb: false,
    connect: false,
    acceptCompression: [],
    readMaxBytes: MAX_REQUEST_BYTES,
    contextValues: (request) =>
      createContextValues().set(
        httpStream,
        (request as http2.Http2ServerRequest).stream as http2.ServerHttp2Stream,
      ),
    routes: (router) => {
      router.rpc(deltaDiscoveryService.method.deltaAggregatedResources, deltaResources);
      deps.register?.(router);
    },
  });
  const server = http2.createSecureServer(
    {
      ...secureOptions(options.tls),
      settings: { maxConcurrentStreams: MAX_STREAMS_PER_SESSION, enablePush: false },
    },
    (request, response) => {
      endWithTrailers(response.stream);
      handle(request, response);
    },
  );
  const sessions = trackSessions(server, scope, options, log);
  await listening(server, options.listen);
  const address = server.address() as AddressInfo;

  return {
    port: address.port,
    setCertificate: (certificate) => server.setSecureContext(secureOptions(certificate)),
    clients: () => [...streams.keys()].map((stream) => stream.info()),
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const stream of streams.keys())
        stream.end(new ConnectError('the control plane is going away', Code.Unavailable));
      // Time for the statuses to leave; then connections are cut.
      for (const session of sessions) session.close();
      await Promise.race([closed, sleep(CLOSE_MS)]);
      scope.close();
      await closed;
    },
  };
}

/**
 * A status ends a call whether or not the client has finished sending (RFC 9113 §8.1): without the reset, a client that
 * never half-closes, as xDS clients do, would wait for the other direction.
 */
function endWithTrailers(stream: http2.ServerHttp2Stream): void {
  stream.once('wantTrailers', () => {
    setImmediate(() => {
      if (!stream.closed) stream.close(http2.constants.NGHTTP2_NO_ERROR);
    });
  });
}

async function read(requests: AsyncIterable<DeltaRequestMessage>, stream: ClientStream): Promise<void> {
  for await (const message of requests) {
    // Thrown out of the loop, an error would first wait for the rest of the requests.
    try {
      stream.onRequest(deltaRequestFrom(message));
    } catch (error) {
      stream.end(ConnectError.from(error));
    }
  }
  stream.end();
}

async function authenticated(deps: XdsServerDeps, headers: Headers): Promise<Caller> {
  try {
    return await deps.authenticate(headers);
  } catch (error) {
    const reason = reasonOf(error);
    deps.log.warn('xDS client refused', { reason });
    if (error instanceof ConnectError) throw error;
    throw new ConnectError(reason, Code.Unauthenticated);
  }
}

function versionOf(pushes: number): string {
  return `${new Date().toISOString()}/${pushes}`;
}

function secureOptions({ certPem, keyPem }: ServingCertificate): http2.SecureServerOptions {
  return { cert: certPem, key: keyPem, minVersion: 'TLSv1.2', ALPNProtocols: ['h2'] };
}

/** A token bucket of one second's depth; who would wait longer than a second is turned away. */
function rateLimit(perSecond: number): (signal: AbortSignal) => Promise<void> {
  let tokens = perSecond;
  let filledAt = performance.now();
  return async (signal) => {
    const now = performance.now();
    tokens = Math.min(perSecond, tokens + ((now - filledAt) / 1000) * perSecond);
    filledAt = now;
    const waitMs = tokens >= 1 ? 0 : ((1 - tokens) / perSecond) * 1000;
    if (waitMs > MAX_STREAM_WAIT_MS)
      throw new ConnectError('too many new streams; try again', Code.ResourceExhausted);
    tokens--;
    if (waitMs > 0) await sleep(waitMs, signal);
  };
}

function listening(server: http2.Http2SecureServer, listen: XdsServerOptions['listen']): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(listen, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** Closes what the server owns with its scope, and notices peers that vanished without a word. */
function trackSessions(
  server: http2.Http2SecureServer,
  scope: Scope,
  options: XdsServerOptions,
  log: Logger,
): ReadonlySet<http2.Http2Session> {
  const sessions = new Set<http2.Http2Session>();
  const intervalMs = options.keepaliveIntervalMs ?? 30_000;
  const timeoutMs = options.keepaliveTimeoutMs ?? 10_000;
  server.on('tlsClientError', (error) => log.debug('xDS TLS handshake failed', { error: reasonOf(error) }));
  server.on('error', (error) => log.error('xDS server failed', { error: reasonOf(error) }));
  server.on('session', (session) => {
    if (scope.closed) {
      session.destroy();
      return;
    }
    sessions.add(session);
    const own = scope.child('session');
    own.onClose(() => session.destroy());
    session.on('error', (error) => log.debug('xDS session failed', { error: reasonOf(error) }));
    session.on('close', () => {
      sessions.delete(session);
      own.close();
    });
    const ping = (): void => {
      if (session.destroyed) return;
      const stop = own.timeout(timeoutMs, () => {
        log.info('xDS client stopped answering');
        session.destroy();
      });
      session.ping((error) => {
        stop();
        if (error === null && !own.closed) own.timeout(intervalMs, ping);
      });
    };
    own.timeout(intervalMs, ping);
  });
  return sessions;
}
