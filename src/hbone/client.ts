// The outbound side of one session: TLS to a peer that must be one of the expected identities, HTTP/2, and CONNECT
// requests on it (ztunnel.md §5.1–5.4). Which session a request goes to is pool.ts's business.

import type { TLSSocket } from 'node:tls';
import { MeshError } from '#base/errors.ts';
import { formatSocketAddress } from '#net/host-port.ts';
import type { Logger } from '#telemetry/log.ts';
import { peerIdentity } from '#tls/peer.ts';
import type { PeerChain, Revocations } from '#tls/revocation.ts';
import type { HboneHeaders, HbonePeer, HboneTunnel, PoolKey, StreamOutcome } from './hbone.ts';
import { CANCEL } from './http2/errors.ts';
import { ordinaryHeaders, unsendable } from './http2/header-rules.ts';
import { Session, type SessionShared } from './http2/session.ts';
import type { Stream, StreamOwner } from './http2/stream.ts';
import { keepAlive } from './session-life.ts';
import { CLIENT_HEADER_LIST_BYTES, type SessionLimits } from './settings.ts';
import { dialTls, type TlsDialDeps } from './tls-dial.ts';

export interface ClientSessionDeps extends TlsDialDeps {
  readonly log: Logger;
  readonly shared: SessionShared;
  /** Undefined: no revocation lists are configured. To be said every time: forgotten, everybody would be let in. */
  readonly revocations: Revocations | undefined;
}

export interface ClientSession {
  /** Streams open or waiting for their answer. */
  readonly openStreams: number;
  /** False: GOAWAY came, or the connection is gone. */
  readonly usable: boolean;
  /** What the peer allows at once; undefined until its SETTINGS came. */
  readonly peerMaxStreams: number | undefined;
  /** Resolves when `peerMaxStreams` is known or the session is over. */
  readonly settled: Promise<void>;
  /** Rejects like HbonePool.connect; details.unprocessed: the peer never looked at the request. */
  connect(authority: string, headers: HboneHeaders): Promise<HboneTunnel>;
  onStreamClosed(run: () => void): void;
  onClosed(run: () => void): void;
  /** Closes when the last stream ends. */
  closeGracefully(): void;
  cut(because: string): void;
}

/** `where` names the peer in errors. Rejects with MeshError `IDENTITY_UNAVAILABLE`, `CONNECT_FAILED`, `CONNECT_TIMEOUT`, `TLS_HANDSHAKE_FAILED`, `PEER_IDENTITY_MISMATCH`, `CERTIFICATE_REVOKED`. */
export async function openClientSession(
  deps: ClientSessionDeps,
  key: PoolKey,
  limits: SessionLimits,
  where = formatSocketAddress(key.destination),
): Promise<ClientSession> {
  const { socket, secret } = await dialTls(deps, key, limits.handshakeTimeoutMs, where);
  const certificate = socket.getPeerX509Certificate();
  const chain = deps.revocations?.admit(certificate, secret);
  if (chain instanceof MeshError) {
    socket.destroy();
    throw chain;
  }
  const peer: HbonePeer = {
    identity: peerIdentity(certificate?.subjectAltName),
    address: key.destination,
  };
  return new HboneClientSession(socket, peer, chain, where, deps, limits);
}

class HboneClientSession implements ClientSession {
  readonly settled: Promise<void>;
  readonly #session: Session;
  readonly #peer: HbonePeer;
  readonly #where: string;
  #onStreamClosed: () => void = () => {};
  readonly #onClosed: (() => void)[] = [];

  constructor(
    socket: TLSSocket,
    peer: HbonePeer,
    chain: PeerChain | undefined,
    where: string,
    deps: ClientSessionDeps,
    limits: SessionLimits,
  ) {
    this.#peer = peer;
    this.#where = where;
    let settle: () => void = () => {};
    this.settled = new Promise((resolve) => {
      settle = resolve;
    });
    const options = { role: 'client', maxListBytes: CLIENT_HEADER_LIST_BYTES } as const;
    this.#session = new Session(socket, deps.shared, options, {
      ready: () => settle(),
      streamClosed: () => this.#onStreamClosed(),
      closed: (reason) => {
        stopPinging();
        stopTracking?.();
        deps.log.debug('HBONE session over', { peer: where, reason });
        settle();
        for (const run of this.#onClosed) run();
      },
    });
    const stopPinging = keepAlive(this.#session, limits, () =>
      deps.log.warn('HBONE peer is silent', { peer: where }),
    );
    const stopTracking =
      chain &&
      deps.revocations?.track(chain, (error) => {
        deps.log.warn('HBONE session cut', { peer: where, error: error.message });
        this.#session.cut(error);
      });
  }

  get openStreams(): number {
    return this.#session.openStreams;
  }

  get usable(): boolean {
    return this.#session.isUsable;
  }

  get peerMaxStreams(): number | undefined {
    return this.#session.peerMaxStreams;
  }

  onStreamClosed(run: () => void): void {
    this.#onStreamClosed = run;
  }

  onClosed(run: () => void): void {
    this.#onClosed.push(run);
  }

  closeGracefully(): void {
    this.#session.drain();
  }

  cut(because: string): void {
    this.#session.cut(because);
  }

  connect(authority: string, headers: HboneHeaders): Promise<HboneTunnel> {
    const unsent = unsendable(authority, headers);
    if (unsent !== undefined) return Promise.reject(this.failed(unsent, false));
    if (!this.usable) return Promise.reject(this.failed(this.#session.reason, true));
    const list = [':method', 'CONNECT', ':authority', authority];
    for (const name in headers) list.push(name, headers[name]!);
    const { promise, resolve, reject } = Promise.withResolvers<HboneTunnel>();
    this.#session.request(list, new Asked(this, resolve, reject));
    return promise;
  }

  tunnelOf(stream: Stream, headers: readonly string[]): HboneTunnel {
    return { stream, headers: ordinaryHeaders(headers), peer: this.#peer };
  }

  /** Why nothing came of a request. */
  failed(why: string, unprocessed: boolean): MeshError {
    const options = { details: { unprocessed } };
    // TLS 1.3: a client is done before the server has judged its certificate, and hears of a refusal as a broken session.
    if (this.#session.isOver && this.#session.peerMaxStreams === undefined) {
      return new MeshError(
        'TLS_HANDSHAKE_FAILED',
        `${this.#where} closed the connection after the TLS handshake, as it does when it refuses our certificate: ${why}`,
        options,
      );
    }
    return new MeshError('HBONE_PROTOCOL', `the tunnel to ${this.#where} failed: ${why}`, options);
  }
}

/** One request, until it is answered. */
class Asked implements StreamOwner {
  readonly #session: HboneClientSession;
  readonly #resolve: (tunnel: HboneTunnel) => void;
  readonly #reject: (error: MeshError) => void;

  constructor(
    session: HboneClientSession,
    resolve: (tunnel: HboneTunnel) => void,
    reject: (error: MeshError) => void,
  ) {
    this.#session = session;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  answered(stream: Stream, status: number, headers: readonly string[]): void {
    // Its end is its sink's matter now; an error made for nobody costs a stack trace a connection.
    stream.owner = undefined;
    if (status === 200) {
      this.#resolve(this.#session.tunnelOf(stream, headers));
      return;
    }
    stream.fail(CANCEL, { clean: true });
    this.#reject(new MeshError('HBONE_REFUSED', `http status: ${status}`, { details: { status } }));
  }

  closed({ isUnprocessed }: Stream, { error, reason }: StreamOutcome): void {
    const why = reason ?? 'the peer reset the stream before it answered';
    this.#reject(error ?? this.#session.failed(why, isUnprocessed));
  }
}
