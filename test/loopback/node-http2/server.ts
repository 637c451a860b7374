// The oracle's inbound side, on node:http2: TLS with the pod's certificate, the peer's trust domain, HTTP/2, one request per CONNECT
// (ztunnel.md §5.3, §7.1 items 1–2). Whether a request is allowed, and where it leads, is its owner's decision.

import http2, {
  constants,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { Socket } from 'node:net';
import type { TLSSocket, Server as TlsServer } from 'node:tls';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { HbonePeer, HboneRequest, HboneServer } from '#hbone/hbone.ts';
import { ordinaryHeaders } from '#hbone/http2/header-rules.ts';
import type { HboneServerDeps, HboneServerLimits } from '#hbone/server.ts';
import { SESSION_LIMITS } from '#hbone/settings.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { Port, SocketAddress } from '#net/host-port.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';
import { ALPN_H2, createWorkloadTlsServer } from '#tls/options.ts';
import { checkTrustDomain, peerIdentity } from '#tls/peer.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { keepAlive, SessionLife, widenConnectionWindow } from './session.ts';
import { serverSessionOptions } from './settings.ts';
import { Http2HboneStream } from './stream.ts';

/** Without `sendDate`, which the declared type lacks, node:http2 adds a header that the field's peers do not send. */
const ACCEPTED = { endStream: false, sendDate: false };
const REFUSED = { endStream: true, sendDate: false };

const REFUSED_LINGER_MS = 5000;

/** A tls.Server serves one certificate; a rotated one gets its own, and the old one ends with its last handshake. */
interface Terminator {
  readonly secret: WorkloadSecret;
  readonly tls: TlsServer;
}

export function createNodeServer(deps: HboneServerDeps, limits: HboneServerLimits = {}): HboneServer {
  const { log } = deps;
  const session = { ...SESSION_LIMITS, ...limits };
  const { maxStreams = 200, secretTimeoutMs = 5000 } = limits;
  const scope = deps.scope.child('hbone server');
  const sessionOptions = serverSessionOptions(maxStreams);
  /** Sockets without a session yet. */
  const arriving = new Set<Socket>();
  const addresses = new WeakMap<Socket, SocketAddress>();
  const sessions = new Set<SessionLife>();
  let terminator: Terminator | undefined;
  let draining = false;

  scope.onClose(() => {
    for (const socket of arriving) socket.destroy();
    for (const life of [...sessions]) life.cut('this end shut down');
  });

  /** One report for each connection, whatever else fails on it. */
  const refuse = (socket: Socket, reason: string): void => {
    socket.destroy();
    const accepted = acceptedSocketOf(socket);
    const address = addresses.get(accepted);
    if (address === undefined) return;
    addresses.delete(accepted);
    log.debug('HBONE peer refused', { reason });
    deps.onRefusedPeer?.(new MeshError('TLS_HANDSHAKE_FAILED', reason), address);
  };

  const terminatorFor = (secret: WorkloadSecret): Terminator => {
    if (terminator?.secret === secret) return terminator;
    const tls = createWorkloadTlsServer(secret, session.handshakeTimeoutMs);
    tls.on('tlsClientError', (error, socket) => refuse(socket, handshakeFailure(error, socket)));
    tls.on('secureConnection', (socket) => startSession(socket, secret.identity));
    terminator = { secret, tls };
    return terminator;
  };

  const startSession = (socket: TLSSocket, own: SpiffeId): void => {
    if (socket.alpnProtocol !== ALPN_H2) {
      refuse(socket, 'the peer does not offer ALPN h2');
      return;
    }
    const subjectAltName = socket.getPeerX509Certificate()?.subjectAltName;
    const verdict = checkTrustDomain(subjectAltName, own);
    if (!verdict.ok) {
      refuse(socket, verdict.reason);
      return;
    }
    const accepted = acceptedSocketOf(socket);
    const address = addresses.get(accepted);
    // From here on the session ends it, with GOAWAY.
    arriving.delete(accepted);
    if (address === undefined || draining || scope.closed) {
      socket.destroy();
      return;
    }
    const peer: HbonePeer = { identity: peerIdentity(subjectAltName), address };
    serveSession(http2.performServerHandshake(socket, sessionOptions), peer);
  };

  const serveSession = (http: ServerHttp2Session, peer: HbonePeer): void => {
    const life = new SessionLife(http, log);
    sessions.add(life);
    http.once('close', () => sessions.delete(life));
    http.on('stream', (stream, headers, _flags, rawHeaders) => {
      serveStream(stream, headers, rawHeaders, life, peer, deps.onRequest);
    });
    widenConnectionWindow(http);
    keepAlive(life, session, () => log.debug('HBONE peer is silent', { peer: peer.identity }));
  };

  const secure = async (socket: Socket): Promise<void> => {
    const secret = await withinMs(secretTimeoutMs, deps.secret(), 'no certificate of our own in time');
    if (socket.destroyed) return;
    terminatorFor(secret).tls.emit('connection', socket);
  };

  return {
    accept(socket) {
      socket.on('error', (error) => log.debug('HBONE connection failed', { error: reasonOf(error) }));
      const address = addressOf(socket);
      if (draining || scope.closed || address === undefined) {
        socket.destroy();
        return;
      }
      // With half-open sockets a peer that is gone would look idle until the next ping.
      socket.allowHalfOpen = false;
      addresses.set(socket, address);
      arriving.add(socket);
      socket.once('close', () => arriving.delete(socket));
      secure(socket).catch((error) => refuse(socket, reasonOf(error)));
    },
    get liveCount() {
      return arriving.size + sessions.size;
    },
    drain() {
      draining = true;
      for (const life of sessions) life.session.close();
    },
    close() {
      scope.close();
    },
  };
}

function serveStream(
  http: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  rawHeaders: readonly string[],
  life: SessionLife,
  peer: HbonePeer,
  onRequest: (request: HboneRequest) => void,
): void {
  const stream = new Http2HboneStream(http, life);
  let isAnswered = false;
  const answerOnce = (): boolean => {
    if (isAnswered) throw new Error('a CONNECT request is answered twice');
    isAnswered = true;
    return !http.destroyed && !http.closed;
  };
  const refuse = (status: number): void => {
    if (!answerOnce()) return;
    http.respond({ ':status': status }, REFUSED);
    // A reset right behind the answer would overtake it in the peer's eyes: the peer ends its own half, within a while.
    http.resume();
    http.setTimeout(REFUSED_LINGER_MS, () => http.close(constants.NGHTTP2_NO_ERROR));
  };
  if (headers[':method'] !== 'CONNECT') {
    refuse(400);
    return;
  }
  onRequest({
    authority: String(headers[':authority']),
    headers: ordinaryHeaders(rawHeaders),
    peer,
    accept(responseHeaders) {
      if (answerOnce()) http.respond({ ':status': 200, ...responseHeaders }, ACCEPTED);
      return stream;
    },
    refuse,
    onAbort(run) {
      http.once('close', () => {
        if (!isAnswered) run();
      });
    },
  });
}

/** A foreign root and its like are decided after the handshake, and stand on the socket only. */
function handshakeFailure(error: Error, socket: TLSSocket): string {
  // The declared type says Error; Node sets the verifier's code.
  const refusal: unknown = socket.authorizationError;
  if (refusal !== null && refusal !== undefined) {
    return `the peer's certificate is not accepted: ${refusal instanceof Error ? refusal.message : String(refusal)}`;
  }
  return `TLS handshake failed: ${reasonOf(error)}`;
}

/**
 * A TLS socket that failed has lost its address, and Node's events name only the TLS socket. Its own link to what it
 * wraps is the way back.
 */
function acceptedSocketOf(socket: Socket): Socket {
  const parent: unknown = '_parent' in socket ? socket._parent : undefined;
  return parent instanceof Socket ? parent : socket;
}

function addressOf(socket: Socket): SocketAddress | undefined {
  const ip = parseIp(socket.remoteAddress ?? '');
  return ip === undefined ? undefined : { ip: ip as IpAddress, port: (socket.remotePort ?? 0) as Port };
}

async function withinMs<T>(timeoutMs: number, promise: Promise<T>, why: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(why)), timeoutMs);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
