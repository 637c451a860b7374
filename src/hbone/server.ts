// The inbound side of one pod: TLS with the pod's certificate, the peer's trust domain, HTTP/2, one request per CONNECT
// (ztunnel.md §5.3, §7.1 items 1–2). Whether a request is allowed, and where it leads, is its owner's decision.

import { Socket } from 'node:net';
import type { TLSSocket, Server as TlsServer } from 'node:tls';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Port, SocketAddress } from '#net/host-port.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import { ALPN_H2, createWorkloadTlsServer } from '#tls/options.ts';
import { checkTrustDomain, peerIdentity } from '#tls/peer.ts';
import type { PeerChain, Revocations } from '#tls/revocation.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import type { HbonePeer, HboneRequest, HboneServer, StreamSink } from './hbone.ts';
import { ordinaryHeaders } from './http2/header-rules.ts';
import { Session, type SessionShared } from './http2/session.ts';
import type { Stream } from './http2/stream.ts';
import { createSessionShared, keepAlive } from './session-life.ts';
import { SERVER_HEADER_LIST_BYTES, SESSION_LIMITS, type SessionLimits } from './settings.ts';

export interface HboneServerDeps {
  /** Asked for each connection, so that a rotated certificate takes effect with the next one. */
  readonly secret: () => Promise<WorkloadSecret>;
  readonly onRequest: (request: HboneRequest) => void;
  /** A connection that never became a session: `TLS_HANDSHAKE_FAILED` or `CERTIFICATE_REVOKED`. */
  readonly onRefusedPeer?: (error: MeshError, address: SocketAddress) => void;
  readonly log: Logger;
  readonly scope: Scope;
  /** Of the data plane; a server alone makes its own. */
  readonly shared?: SessionShared;
  /** Absent: no revocation lists are configured. */
  readonly revocations?: Revocations | undefined;
}

export interface HboneServerLimits extends Partial<SessionLimits> {
  /** Advertised; streams above it are refused. */
  readonly maxStreams?: number;
  /** How long a connection may wait for our own certificate (ztunnel.md §7.1). */
  readonly secretTimeoutMs?: number;
}

const REFUSED_LINGER_MS = 5000;

/** A tls.Server serves one certificate; a rotated one gets its own, and the old one ends with its last handshake. */
interface Terminator {
  readonly secret: WorkloadSecret;
  readonly tls: TlsServer;
}

export function createHboneServer(deps: HboneServerDeps, limits: HboneServerLimits = {}): HboneServer {
  const { log } = deps;
  const sessionLimits = { ...SESSION_LIMITS, ...limits };
  const { maxStreams = 200, secretTimeoutMs = 5000 } = limits;
  const scope = deps.scope.child('hbone server');
  const { shared = createSessionShared() } = deps;
  const sessionOptions = { role: 'server', maxListBytes: SERVER_HEADER_LIST_BYTES, maxStreams } as const;
  /** Sockets without a session yet. */
  const arriving = new Set<Socket>();
  const addresses = new WeakMap<Socket, SocketAddress>();
  const sessions = new Set<Session>();
  let terminator: Terminator | undefined;
  let draining = false;

  scope.onClose(() => {
    for (const socket of arriving) socket.destroy();
    for (const session of [...sessions]) session.cut('this end shut down');
  });

  /** One report for each connection, whatever else fails on it. */
  const refuse = (socket: Socket, why: string | MeshError): void => {
    socket.destroy();
    const accepted = acceptedSocketOf(socket);
    const address = addresses.get(accepted);
    if (address === undefined) return;
    addresses.delete(accepted);
    const error = typeof why === 'string' ? new MeshError('TLS_HANDSHAKE_FAILED', why) : why;
    log.debug('HBONE peer refused', { reason: error.message });
    deps.onRefusedPeer?.(error, address);
  };

  const terminatorFor = (secret: WorkloadSecret): Terminator => {
    if (terminator?.secret === secret) return terminator;
    const tls = createWorkloadTlsServer(secret, sessionLimits.handshakeTimeoutMs);
    tls.on('tlsClientError', (error, socket) => refuse(socket, handshakeFailure(error, socket)));
    tls.on('secureConnection', (socket) => startSession(socket, secret));
    terminator = { secret, tls };
    return terminator;
  };

  const startSession = (socket: TLSSocket, own: WorkloadSecret): void => {
    if (socket.alpnProtocol !== ALPN_H2) {
      refuse(socket, 'the peer does not offer ALPN h2');
      return;
    }
    const certificate = socket.getPeerX509Certificate();
    const subjectAltName = certificate?.subjectAltName;
    const verdict = checkTrustDomain(subjectAltName, own.identity);
    if (!verdict.ok) {
      refuse(socket, verdict.reason);
      return;
    }
    const chain = deps.revocations?.admit(certificate, own);
    if (chain instanceof MeshError) {
      refuse(socket, chain);
      return;
    }
    const accepted = acceptedSocketOf(socket);
    const address = addresses.get(accepted);
    // From here on the session ends it, with GOAWAY.
    arriving.delete(accepted);
    if (address === undefined || scope.closed) {
      socket.destroy();
      return;
    }
    const peer: HbonePeer = { identity: peerIdentity(subjectAltName), address };
    serveSession(socket, peer, chain);
  };

  const serveSession = (socket: TLSSocket, peer: HbonePeer, chain: PeerChain | undefined): void => {
    const session = new Session(socket, shared, sessionOptions, {
      request: (stream, authority, headers) => {
        if (authority === undefined) refuseStream(session, stream, 400);
        else deps.onRequest(requestOf(session, stream, authority, headers, peer));
      },
      closed: (reason) => {
        stopPinging();
        stopTracking?.();
        sessions.delete(session);
        log.debug('HBONE session over', { peer: peer.identity, reason });
      },
    });
    sessions.add(session);
    const stopPinging = keepAlive(session, sessionLimits, () =>
      log.debug('HBONE peer is silent', { peer: peer.identity }),
    );
    const stopTracking =
      chain &&
      deps.revocations?.track(chain, (error) => {
        log.warn('HBONE session cut', { peer: peer.identity, error: error.message });
        session.cut(error);
      });
    // A peer in the middle of its handshake is told in HTTP/2's words: what it asked for then goes to another session.
    if (draining) session.drain();
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
    drain() {
      draining = true;
      for (const session of [...sessions]) session.drain();
    },
    get liveCount() {
      return arriving.size + sessions.size;
    },
    close() {
      scope.close();
    },
  };
}

function requestOf(
  session: Session,
  stream: Stream,
  authority: string,
  headers: readonly string[],
  peer: HbonePeer,
): HboneRequest {
  let isAnswered = false;
  const answerOnce = (): void => {
    if (isAnswered) throw new Error('a CONNECT request is answered twice');
    isAnswered = true;
  };
  return {
    authority,
    headers: ordinaryHeaders(headers),
    peer,
    accept(responseHeaders) {
      answerOnce();
      const list = [':status', '200'];
      for (const name in responseHeaders) list.push(name, responseHeaders[name]!);
      session.respond(stream, list, false);
      return stream;
    },
    refuse(status) {
      answerOnce();
      refuseStream(session, stream, status);
    },
    onAbort(run) {
      stream.onClosed = () => {
        if (!isAnswered) run();
      };
    },
  };
}

/** What a refused peer still sends is read and dropped, until it ends its own half or has had time to. */
const DISCARD: StreamSink = { data() {}, drain() {}, end() {}, close() {} };

function refuseStream(session: Session, stream: Stream, status: number): void {
  session.respond(stream, [':status', String(status)], true);
  stream.attach(DISCARD);
  // A reset right behind the answer would overtake it in some peers' eyes.
  const timer = setTimeout(() => stream.reset('NO_ERROR'), REFUSED_LINGER_MS).unref();
  stream.onClosed = () => clearTimeout(timer);
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
