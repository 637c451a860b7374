// A gRPC server over TLS for few, long calls: bytes in, bytes out, by path. It owns sockets and sessions; a call is
// server-call.ts. In place of a framework, because messages here are shared among calls and must not be copied for each.

import http2 from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { sleep } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import type { Logger } from '#telemetry/log.ts';
import { ServerCall } from './server-call.ts';
import { GRPC_UNIMPLEMENTED } from './status.ts';

/** Takes a call over: sets handlers, sends, and ends it at some time. May not throw. */
export type GrpcMethod = (call: ServerCall) => void;

export interface ServingCertificate {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface GrpcServerDeps {
  readonly log: Logger;
  /** By path: `/package.Service/Method`. */
  readonly methods: ReadonlyMap<string, GrpcMethod>;
}

export interface GrpcServerOptions {
  readonly listen: { readonly host: string; readonly port: number } | { readonly fd: number };
  readonly tls: ServingCertificate;
  readonly keepaliveIntervalMs?: number;
  readonly keepaliveTimeoutMs?: number;
}

export interface GrpcServer {
  readonly port: number;
  /** For new connections; established ones keep theirs. */
  setCertificate(certificate: ServingCertificate): void;
  /** No new connections; on those there are, no new calls (GOAWAY). */
  drain(): void;
  /** Drains, gives statuses that are under way a moment to leave, then cuts every connection. */
  close(): Promise<void>;
}

const MAX_STREAMS_PER_SESSION = 100;
const CLOSE_MS = 500;

/** Resolves once the port is open. */
export async function startGrpcServer(deps: GrpcServerDeps, options: GrpcServerOptions): Promise<GrpcServer> {
  const { log } = deps;
  const scope = new Scope('grpc server');
  const server = http2.createSecureServer({
    ...secureOptions(options.tls),
    settings: { maxConcurrentStreams: MAX_STREAMS_PER_SESSION, enablePush: false },
  });
  serveMethods(server, deps);
  const sessions = trackSessions(server, scope, options, log);
  await listening(server, options.listen);
  const { port } = server.address() as AddressInfo;
  let closed: Promise<void> | undefined;
  const drain = (): Promise<void> => {
    closed ??= new Promise<void>((resolve) => server.close(() => resolve()));
    for (const session of sessions) if (!session.closed) session.close();
    return closed;
  };
  return {
    port,
    setCertificate: (certificate) => server.setSecureContext(secureOptions(certificate)),
    drain: () => {
      void drain();
    },
    close: async () => {
      const done = drain();
      await Promise.race([done, sleep(CLOSE_MS)]);
      scope.close();
      await done;
    },
  };
}

/** On a server that somebody else makes, listens with and closes. */
export function serveMethods(server: http2.Http2SecureServer, deps: GrpcServerDeps): void {
  server.on('stream', (stream, headers) => onStream(deps, stream as http2.ServerHttp2Stream, headers));
}

function onStream(
  { log, methods }: GrpcServerDeps,
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
): void {
  // What is amiss shows in how the call ends; an error without a listener would end the process.
  stream.on('error', (error) => log.debug('gRPC stream failed', { error: reasonOf(error) }));
  if (headers[':method'] !== 'POST' || headers['content-type']?.startsWith('application/grpc') !== true) {
    stream.respond({ ':status': 415 }, { endStream: true });
    stream.resume();
    setImmediate(() => stream.close(http2.constants.NGHTTP2_NO_ERROR));
    return;
  }
  const call = new ServerCall(stream, headers);
  const path = headers[':path'] ?? '';
  const encoding = headers['grpc-encoding'] ?? 'identity';
  const method = methods.get(path);
  if (method === undefined) call.end({ code: GRPC_UNIMPLEMENTED, message: `${path} is not served here` });
  else if (encoding !== 'identity')
    call.end({ code: GRPC_UNIMPLEMENTED, message: `messages compressed by ${encoding} are not read` });
  else method(call);
}

function secureOptions({ certPem, keyPem }: ServingCertificate): http2.SecureServerOptions {
  return { cert: certPem, key: keyPem, minVersion: 'TLSv1.2', ALPNProtocols: ['h2'] };
}

function listening(server: http2.Http2SecureServer, listen: GrpcServerOptions['listen']): Promise<void> {
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
  options: GrpcServerOptions,
  log: Logger,
): ReadonlySet<http2.Http2Session> {
  const sessions = new Set<http2.Http2Session>();
  const intervalMs = options.keepaliveIntervalMs ?? 30_000;
  const timeoutMs = options.keepaliveTimeoutMs ?? 10_000;
  // Small messages go out when they are written, not when the last ones are acknowledged.
  server.on('connection', (socket: Socket) => socket.setNoDelay(true));
  server.on('tlsClientError', (error) => log.debug('TLS handshake failed', { error: reasonOf(error) }));
  server.on('error', (error) => log.error('gRPC server failed', { error: reasonOf(error) }));
  server.on('session', (session) => {
    if (scope.closed) {
      session.destroy();
      return;
    }
    sessions.add(session);
    const own = scope.child('session');
    own.onClose(() => session.destroy());
    session.on('error', (error) => log.debug('gRPC session failed', { error: reasonOf(error) }));
    session.on('close', () => {
      sessions.delete(session);
      own.close();
    });
    const ping = (): void => {
      if (session.destroyed) return;
      const stop = own.timeout(timeoutMs, () => {
        log.info('a gRPC client stopped answering');
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
