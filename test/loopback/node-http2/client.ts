// The oracle's outbound side: node:http2 on our TLS, and CONNECT requests on it (ztunnel.md §5.1–5.4). Which session a request goes to is pool.ts's business.

import http2, { type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { ClientSession, ClientSessionDeps } from '#hbone/client.ts';
import type { HboneHeaders, HbonePeer, HboneTunnel, PoolKey } from '#hbone/hbone.ts';
import { ordinaryHeaders } from '#hbone/http2/header-rules.ts';
import type { SessionLimits } from '#hbone/settings.ts';
import { dialTls } from '#hbone/tls-dial.ts';
import { formatSocketAddress } from '#net/host-port.ts';
import { peerIdentity } from '#tls/peer.ts';
import { keepAlive, SessionLife, widenConnectionWindow } from './session.ts';
import { clientSessionOptions } from './settings.ts';
import { Http2HboneStream } from './stream.ts';

const REFUSED_STREAM = 7;

/** Rejects with MeshError `IDENTITY_UNAVAILABLE`, `CONNECT_FAILED`, `CONNECT_TIMEOUT`, `TLS_HANDSHAKE_FAILED`, `PEER_IDENTITY_MISMATCH`. */
export async function openNodeSession(
  deps: Omit<ClientSessionDeps, 'shared'>,
  key: PoolKey,
  limits: SessionLimits,
): Promise<ClientSession> {
  const where = formatSocketAddress(key.destination);
  const { socket } = await dialTls(deps, key, limits.handshakeTimeoutMs, where);
  const peer: HbonePeer = {
    identity: peerIdentity(socket.getPeerX509Certificate()?.subjectAltName),
    address: key.destination,
  };
  const http = http2.connect('https://hbone', { ...clientSessionOptions(), createConnection: () => socket });
  const life = new SessionLife(http, deps.log);
  http.once('connect', () => widenConnectionWindow(http));
  keepAlive(life, limits, () => deps.log.warn('HBONE peer is silent', { peer: where }));
  return new Http2ClientSession(http, life, peer, where);
}

class Http2ClientSession implements ClientSession {
  readonly settled: Promise<void>;
  readonly #http: ClientHttp2Session;
  readonly #life: SessionLife;
  readonly #peer: HbonePeer;
  readonly #where: string;
  #openStreams = 0;
  #peerMaxStreams: number | undefined;
  #onStreamClosed: () => void = () => {};

  constructor(http: ClientHttp2Session, life: SessionLife, peer: HbonePeer, where: string) {
    this.#http = http;
    this.#life = life;
    this.#peer = peer;
    this.#where = where;
    this.settled = new Promise((resolve) => {
      http.on('remoteSettings', (settings) => {
        this.#peerMaxStreams = settings.maxConcurrentStreams ?? Number.POSITIVE_INFINITY;
        resolve();
      });
      http.once('close', () => resolve());
    });
  }

  get openStreams(): number {
    return this.#openStreams;
  }

  get usable(): boolean {
    return !this.#http.closed && !this.#http.destroyed;
  }

  get peerMaxStreams(): number | undefined {
    return this.#peerMaxStreams;
  }

  onStreamClosed(run: () => void): void {
    this.#onStreamClosed = run;
  }

  onClosed(run: () => void): void {
    this.#http.once('close', run);
  }

  closeGracefully(): void {
    if (this.usable) this.#http.close();
  }

  cut(because: string): void {
    this.#life.cut(because);
  }

  connect(authority: string, headers: HboneHeaders): Promise<HboneTunnel> {
    let http: ClientHttp2Stream;
    try {
      assertSendable(authority, headers);
      http = this.#http.request(
        { ':method': 'CONNECT', ':authority': authority, ...headers },
        { endStream: false },
      );
    } catch (error) {
      return Promise.reject(this.#failed(reasonOf(error), isGone(error), error));
    }
    this.#openStreams += 1;
    const stream = new Http2HboneStream(http, this.#life);
    return new Promise((resolve, reject) => {
      let failure: unknown;
      http.on('error', (error) => {
        failure = error;
      });
      http.once('response', (received, _flags, rawHeaders) => {
        const status = Number(received[':status']);
        if (status === 200) resolve({ stream, headers: ordinaryHeaders(rawHeaders), peer: this.#peer });
        else {
          stream.reset('CANCEL');
          reject(this.#refused(status));
        }
      });
      http.once('close', () => {
        this.#openStreams -= 1;
        this.#onStreamClosed();
        const isUnprocessed = http.rstCode === REFUSED_STREAM || isGone(failure);
        // Has no effect after the answer.
        reject(this.#failed(this.#reason(http.rstCode ?? 0, failure), isUnprocessed, failure));
      });
    });
  }

  #reason(rstCode: number, failure: unknown): string {
    if (this.#life.over) return this.#life.reason;
    return failure === undefined ? `the peer reset the stream with code ${rstCode}` : reasonOf(failure);
  }

  #refused(status: number): MeshError {
    return new MeshError('HBONE_REFUSED', `http status: ${status}`, { details: { status } });
  }

  #failed(why: string, unprocessed: boolean, cause: unknown): MeshError {
    const options = { cause, details: { unprocessed } };
    // TLS 1.3: a client is done before the server has judged its certificate, and hears of a refusal as a broken session.
    if (this.#life.over && this.#peerMaxStreams === undefined) {
      return new MeshError(
        'TLS_HANDSHAKE_FAILED',
        `${this.#where} closed the connection after the TLS handshake, as it does when it refuses our certificate: ${why}`,
        options,
      );
    }
    return new MeshError('HBONE_PROTOCOL', `the tunnel to ${this.#where} failed: ${why}`, options);
  }
}

/** What node:http2 would send all the same, for the peer to refuse (RFC 9113 §8.2.1, §8.5). */
function assertSendable(authority: string, headers: HboneHeaders): void {
  if (authority === '') throw new Error('the authority is empty');
  for (const name in headers) {
    if (/[\0\r\n]/.test(headers[name]!)) throw new Error(`the header ${name} holds a line break or NUL`);
  }
}

/** The session was on its way out when the request was made: nothing of it was sent. */
function isGone(error: unknown): boolean {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return code === 'ERR_HTTP2_GOAWAY_SESSION' || code === 'ERR_HTTP2_INVALID_SESSION';
}
