// TLS to a peer that must be one of the expected identities (ztunnel.md §5.1–5.2): our certificate, a connection, the handshake.

import type { Duplex } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import type { SocketAddress } from '#net/host-port.ts';
import { ALPN_H2, clientTlsOptions } from '#tls/options.ts';
import { checkExpected } from '#tls/peer.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import type { PoolKey } from './hbone.ts';

export interface TlsDialDeps {
  readonly dial: (destination: SocketAddress) => Promise<Duplex>;
  readonly secret: (id: PoolKey['source']) => Promise<WorkloadSecret>;
}

/** `where` names the peer in errors. Rejects with MeshError `IDENTITY_UNAVAILABLE`, `CONNECT_FAILED`, `CONNECT_TIMEOUT`, `TLS_HANDSHAKE_FAILED`, `PEER_IDENTITY_MISMATCH`. */
export async function dialTls(
  deps: TlsDialDeps,
  key: PoolKey,
  handshakeTimeoutMs: number,
  where: string,
): Promise<{ readonly socket: TLSSocket; readonly secret: WorkloadSecret }> {
  const secret = await orFail(
    deps.secret(key.source),
    'IDENTITY_UNAVAILABLE',
    `no certificate for ${key.source}`,
  );
  const raw = await orFail(deps.dial(key.destination), 'CONNECT_FAILED', `cannot connect to ${where}`);
  return { socket: await handshake(raw, secret, key, handshakeTimeoutMs, where), secret };
}

function handshake(
  socket: Duplex,
  secret: WorkloadSecret,
  key: PoolKey,
  timeoutMs: number,
  where: string,
): Promise<TLSSocket> {
  // A peer's FIN must end the session; half-close is a matter of streams.
  socket.allowHalfOpen = false;
  return new Promise((resolve, reject) => {
    const secure = connectTls({
      ...clientTlsOptions(secret, (subjectAltName) => {
        const verdict = checkExpected(subjectAltName, key.expected);
        return verdict.ok
          ? undefined
          : new MeshError('PEER_IDENTITY_MISMATCH', `${where}: ${verdict.reason}`);
      }),
      socket,
    });
    const fail = (why: string, cause?: unknown): void => {
      clearTimeout(timer);
      secure.destroy();
      socket.destroy();
      reject(
        cause instanceof MeshError
          ? cause
          : new MeshError('TLS_HANDSHAKE_FAILED', `TLS with ${where} failed: ${why}`, { cause }),
      );
    };
    const timer = setTimeout(() => fail(`no end of the handshake within ${timeoutMs} ms`), timeoutMs);
    // These two stay for the life of the socket; after the handshake they have nothing left to do but listen.
    secure.on('error', (error) => fail(reasonOf(error), error));
    secure.once('close', () => fail('the peer closed the connection'));
    secure.once('secureConnect', () => {
      clearTimeout(timer);
      if (secure.alpnProtocol === ALPN_H2) resolve(secure);
      else fail('the peer does not speak ALPN h2');
    });
  });
}

async function orFail<T>(
  promise: Promise<T>,
  code: 'IDENTITY_UNAVAILABLE' | 'CONNECT_FAILED',
  context: string,
): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    throw MeshError.from(error, errnoOf(error) === 'ETIMEDOUT' ? 'CONNECT_TIMEOUT' : code, context);
  }
}
