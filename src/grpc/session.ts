// The HTTP/2 session under a gRPC channel: connects on demand (TCP, TLS, ALPN), shares one session among all calls,
// keeps it alive, and forgets it as soon as it cannot take another call. Calls themselves are client.ts's matter.

import http2 from 'node:http2';
import net from 'node:net';
import tls from 'node:tls';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Logger } from '#telemetry/log.ts';
import { DEFAULT_TLS_POLICY, type TlsPolicy, tlsParameters } from '#tls/options.ts';

export interface SessionDeps {
  readonly log: Logger;
  readonly scope: Scope;
  /** Opens the TCP connection, for callers that mark or bind their sockets. */
  readonly dial?: (host: string, port: number) => Promise<net.Socket>;
}

export interface SessionOptions {
  readonly host: string;
  readonly port: number;
  /** The name that the server's certificate must carry; also sent as SNI. */
  readonly serverName: string;
  /** A second acceptable name (`ALT_XDS_HOSTNAME`, ztunnel.md §3.1). */
  readonly alternativeServerName?: string;
  /** Trust anchors, read for each call: with other roots than the session's, the next call gets a new session. */
  readonly rootPem: () => string | Promise<string>;
  readonly tls?: TlsPolicy;
  readonly connectTimeoutMs?: number;
  readonly keepaliveIntervalMs?: number;
  readonly keepaliveTimeoutMs?: number;
}

export interface SharedSession {
  /** Rejects with MeshError `CONNECT_FAILED`, `CONNECT_TIMEOUT` or `TLS_HANDSHAKE_FAILED`. */
  get(): Promise<http2.ClientHttp2Session>;
  /** Told around each call: pings go out only while calls are open (ztunnel.md §3.1). */
  callStarted(session: http2.ClientHttp2Session): () => void;
  close(): void;
}

const STREAM_WINDOW_BYTES = 4 << 20;
const CONNECTION_WINDOW_BYTES = 16 << 20;
const TCP_KEEPALIVE_MS = 300_000;

export function createSharedSession(deps: SessionDeps, options: SessionOptions): SharedSession {
  const { log } = deps;
  const scope = deps.scope.child(`grpc ${options.host}:${options.port}`);
  const openCalls = new WeakMap<http2.ClientHttp2Session, number>();
  let current: http2.ClientHttp2Session | undefined;
  let currentRoots = '';
  let opening: Promise<http2.ClientHttp2Session> | undefined;

  const open = async (): Promise<http2.ClientHttp2Session> => {
    const roots = await options.rootPem();
    const socket = await connectTls(deps, options, roots, scope);
    const session = http2.connect(`https://${options.serverName}`, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
    });
    const sessionScope = scope.child('session');
    sessionScope.onClose(() => session.destroy());
    session.on('error', (error) => log.debug('gRPC session failed', { error: reasonOf(error) }));
    session.once('connect', () => {
      // The event comes a turn later; the channel may be closed by then.
      if (!session.destroyed) session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    });
    session.once('close', () => {
      if (!sessionScope.closed) sessionScope.close();
    });
    keepAlive(session, sessionScope, options, () => (openCalls.get(session) ?? 0) > 0, log);
    current = session;
    currentRoots = roots;
    return session;
  };

  const openOnce = (): Promise<http2.ClientHttp2Session> => {
    // A failed attempt is not kept: its error goes to those who wait for it, and the next call tries again.
    opening ??= open().finally(() => {
      opening = undefined;
    });
    return opening;
  };

  const isUsable = (session: http2.ClientHttp2Session | undefined): session is http2.ClientHttp2Session =>
    session !== undefined && !session.closed && !session.destroyed;

  /** A file that is being replaced is no reason to give up a session that works. */
  const replaced = async (old: http2.ClientHttp2Session): Promise<http2.ClientHttp2Session> => {
    try {
      if ((await options.rootPem()) === currentRoots) return isUsable(old) ? old : openOnce();
      const fresh = await openOnce();
      // Its calls may end.
      if (fresh !== old) old.close();
      return fresh;
    } catch (error) {
      if (!isUsable(old)) throw error;
      log.warn('no session with the new roots, the present one is kept', { error: reasonOf(error) });
      return old;
    }
  };

  return {
    async get() {
      if (scope.closed) throw new MeshError('CONNECT_FAILED', 'the gRPC channel is closed');
      return isUsable(current) ? replaced(current) : openOnce();
    },
    callStarted(session) {
      openCalls.set(session, (openCalls.get(session) ?? 0) + 1);
      return () => openCalls.set(session, (openCalls.get(session) ?? 1) - 1);
    },
    close() {
      scope.close();
    },
  };
}

async function connectTls(
  deps: SessionDeps,
  options: SessionOptions,
  ca: string,
  scope: Scope,
): Promise<tls.TLSSocket> {
  const where = `${options.host}:${options.port}`;
  const socket = await connectTcp(deps, options);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
  return new Promise((resolve, reject) => {
    const accepted = [options.serverName, options.alternativeServerName].filter((name) => name !== undefined);
    const secure = tls.connect({
      socket,
      ca,
      ...tlsParameters(options.tls ?? DEFAULT_TLS_POLICY),
      ALPNProtocols: ['h2'],
      servername: net.isIP(options.serverName) === 0 ? options.serverName : '',
      checkServerIdentity: (_host, certificate) => {
        const mismatches = accepted.map((name) => tls.checkServerIdentity(name, certificate));
        return mismatches.includes(undefined) ? undefined : mismatches[0];
      },
    });
    const fail = (why: string, cause?: unknown): void => {
      forget();
      secure.destroy();
      reject(new MeshError('TLS_HANDSHAKE_FAILED', `TLS with ${where} failed: ${why}`, { cause }));
    };
    const forgetTimer = scope.timeout(options.connectTimeoutMs ?? 5000, () => fail('no answer in time'));
    const forgetScope = scope.onClose(() => fail('the channel was closed'));
    const forget = (): void => {
      forgetTimer();
      forgetScope();
    };
    // Stays for the life of the socket: an error without a listener would end the process.
    secure.on('error', (error) => fail(reasonOf(error), error));
    secure.once('close', () => fail('the server closed the connection'));
    secure.once('secureConnect', () => {
      if (secure.alpnProtocol === 'h2') {
        forget();
        resolve(secure);
      } else fail('the server does not speak HTTP/2');
    });
  });
}

async function connectTcp(deps: SessionDeps, options: SessionOptions): Promise<net.Socket> {
  const { host, port } = options;
  if (deps.dial !== undefined) return deps.dial(host, port);
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port, noDelay: true });
    const giveUp = setTimeout(
      () => socket.destroy(new MeshError('CONNECT_TIMEOUT', `no TCP connection to ${host}:${port} in time`)),
      options.connectTimeoutMs ?? 5000,
    );
    socket.on('error', (error) => {
      clearTimeout(giveUp);
      reject(MeshError.from(error, 'CONNECT_FAILED', `cannot connect to ${host}:${port}`));
    });
    socket.once('connect', () => {
      clearTimeout(giveUp);
      resolve(socket);
    });
  });
}

/** One ping in flight at most; an unanswered one ends the session, and with it every call. */
function keepAlive(
  session: http2.ClientHttp2Session,
  scope: Scope,
  options: SessionOptions,
  wanted: () => boolean,
  log: Logger,
): void {
  const intervalMs = options.keepaliveIntervalMs ?? 30_000;
  const timeoutMs = options.keepaliveTimeoutMs ?? 10_000;
  const next = (): void => {
    scope.timeout(intervalMs, () => {
      if (!wanted() || session.closed || session.destroyed) {
        next();
        return;
      }
      const stop = scope.timeout(timeoutMs, () => {
        log.warn('gRPC server stopped answering', { server: options.serverName });
        session.destroy(new MeshError('CONNECT_FAILED', `no answer to a ping within ${timeoutMs} ms`));
      });
      session.ping((error) => {
        stop();
        if (error === null) next();
      });
    });
  };
  next();
}
