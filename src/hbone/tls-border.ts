// Where connections to one pod become TLS (ztunnel.md §5.3, §7.1 items 1–2): the pod's certificate, the peer's trust domain,
// revocation lists. Who is let through is handed on; who is not is reported once, with the reason.

import { Socket } from 'node:net';
import type { TLSSocket, Server as TlsServer } from 'node:tls';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Port, SocketAddress } from '#net/host-port.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import { ALPN_H2, createWorkloadTlsServer } from '#tls/options.ts';
import { checkTrustDomain, peerIdentity } from '#tls/peer.ts';
import type { PeerChain, Revocations } from '#tls/revocation.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import type { HbonePeer } from './hbone.ts';

export interface TlsBorderDeps {
  /** Asked for each connection, so that a rotated certificate takes effect with the next one. */
  readonly secret: () => Promise<WorkloadSecret>;
  /** A connection that never became a session: `TLS_HANDSHAKE_FAILED` or `CERTIFICATE_REVOKED`. */
  readonly onRefusedPeer?: (error: MeshError, address: SocketAddress) => void;
  readonly log: Logger;
  /** Absent: no revocation lists are configured. */
  readonly revocations?: Revocations | undefined;
}

export interface TlsBorderLimits {
  readonly handshakeTimeoutMs: number;
  /** How long a connection may wait for our own certificate (ztunnel.md §7.1). */
  readonly secretTimeoutMs?: number;
}

/** Told of each connection that is through, with what to watch of its certificates. It is the session's from then on. */
export type Admitted = (socket: TLSSocket, peer: HbonePeer, chain: PeerChain | undefined) => void;

export interface TlsBorder {
  accept(socket: Socket): void;
  /** Whoever comes from now on is turned away; handshakes under way go on. */
  refuseNew(): void;
  /** Connections that are not through yet. */
  readonly arrivingCount: number;
  /** Ends them. */
  close(): void;
}

/** A tls.Server serves one certificate; a rotated one gets its own, and the old one ends with its last handshake. */
interface Terminator {
  readonly secret: WorkloadSecret;
  readonly tls: TlsServer;
}

export function createTlsBorder(deps: TlsBorderDeps, limits: TlsBorderLimits, admitted: Admitted): TlsBorder {
  const { log } = deps;
  const { handshakeTimeoutMs, secretTimeoutMs = 5000 } = limits;
  /** Sockets without a session yet. */
  const arriving = new Set<Socket>();
  const addresses = new WeakMap<Socket, SocketAddress>();
  let terminator: Terminator | undefined;
  let refusesNew = false;
  let isClosed = false;

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
    const tls = createWorkloadTlsServer(secret, handshakeTimeoutMs);
    tls.on('tlsClientError', (error, socket) => refuse(socket, handshakeFailure(error, socket)));
    tls.on('secureConnection', (socket) => judge(socket, secret));
    terminator = { secret, tls };
    return terminator;
  };

  const judge = (socket: TLSSocket, own: WorkloadSecret): void => {
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
    if (address === undefined || isClosed) {
      socket.destroy();
      return;
    }
    admitted(socket, { identity: peerIdentity(subjectAltName), address }, chain);
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
      if (refusesNew || isClosed || address === undefined) {
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
    refuseNew() {
      refusesNew = true;
    },
    get arrivingCount() {
      return arriving.size;
    },
    close() {
      isClosed = true;
      for (const socket of arriving) socket.destroy();
    },
  };
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
