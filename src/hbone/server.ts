// The inbound side of one pod: HTTP/2 behind its TLS border, one request per CONNECT (ztunnel.md §5.3, §7.1 items 1–2).
// Whether a request is allowed, and where it leads, is its owner's decision.

import type { Scope } from '#base/scope.ts';
import type { HboneHeaders, HbonePeer, HboneRequest, HboneServer, HboneStream, StreamSink } from './hbone.ts';
import { ordinaryHeaders } from './http2/header-rules.ts';
import { Session, type SessionShared } from './http2/session.ts';
import type { Stream, StreamOwner } from './http2/stream.ts';
import { createSessionShared, keepAlive } from './session-life.ts';
import { SERVER_HEADER_LIST_BYTES, SESSION_LIMITS, type SessionLimits } from './settings.ts';
import { createTlsBorder, type TlsBorderDeps, type TlsBorderLimits } from './tls-border.ts';

export interface HboneServerDeps extends TlsBorderDeps {
  readonly onRequest: (request: HboneRequest) => void;
  readonly scope: Scope;
  /** Of the data plane; a server alone makes its own. */
  readonly shared?: SessionShared;
}

export interface HboneServerLimits extends Partial<SessionLimits>, Pick<TlsBorderLimits, 'secretTimeoutMs'> {
  /** Advertised; streams above it are refused. */
  readonly maxStreams?: number;
}

const REFUSED_LINGER_MS = 5000;

export function createHboneServer(deps: HboneServerDeps, limits: HboneServerLimits = {}): HboneServer {
  const { log } = deps;
  const sessionLimits = { ...SESSION_LIMITS, ...limits };
  const { maxStreams = 200 } = limits;
  const scope = deps.scope.child('hbone server');
  const { shared = createSessionShared() } = deps;
  const sessionOptions = { role: 'server', maxListBytes: SERVER_HEADER_LIST_BYTES, maxStreams } as const;
  const sessions = new Set<Session>();
  let draining = false;

  const border = createTlsBorder(deps, sessionLimits, (socket, peer, chain) => {
    const session = new Session(socket, shared, sessionOptions, {
      request: (stream, authority, headers) => {
        if (authority === undefined) refuseStream(session, stream, 400);
        else deps.onRequest(new Request(session, stream, authority, headers, peer));
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
  });

  scope.onClose(() => {
    border.close();
    for (const session of [...sessions]) session.cut('this end shut down');
  });

  return {
    accept: border.accept,
    drain() {
      draining = true;
      border.refuseNew();
      for (const session of [...sessions]) session.drain();
    },
    get liveCount() {
      return border.arrivingCount + sessions.size;
    },
    close() {
      scope.close();
    },
  };
}

/** One CONNECT, until the stream is over. */
class Request implements HboneRequest, StreamOwner {
  readonly authority: string;
  readonly headers: HboneHeaders;
  readonly peer: HbonePeer;
  readonly #session: Session;
  readonly #stream: Stream;
  #isAnswered = false;
  #aborted: (() => void) | undefined;

  constructor(
    session: Session,
    stream: Stream,
    authority: string,
    headers: readonly string[],
    peer: HbonePeer,
  ) {
    this.authority = authority;
    this.headers = ordinaryHeaders(headers);
    this.peer = peer;
    this.#session = session;
    this.#stream = stream;
    stream.owner = this;
  }

  accept(headers: HboneHeaders): HboneStream {
    this.#answer();
    const list = [':status', '200'];
    for (const name in headers) list.push(name, headers[name]!);
    this.#session.respond(this.#stream, list, false);
    return this.#stream;
  }

  refuse(status: 400 | 401 | 503): void {
    this.#answer();
    refuseStream(this.#session, this.#stream, status);
  }

  onAbort(run: () => void): void {
    this.#aborted = run;
  }

  closed(): void {
    this.#aborted?.();
  }

  #answer(): void {
    if (this.#isAnswered) throw new Error('a CONNECT request is answered twice');
    this.#isAnswered = true;
    this.#stream.owner = undefined;
  }
}

/** What a refused peer still sends is read and dropped, until it ends its own half or has had time to. */
const DISCARD: StreamSink = { data() {}, drain() {}, end() {}, close() {} };

function refuseStream(session: Session, stream: Stream, status: number): void {
  session.respond(stream, [':status', String(status)], true);
  stream.attach(DISCARD);
  // A reset right behind the answer would overtake it in some peers' eyes.
  const timer = setTimeout(() => stream.reset('NO_ERROR'), REFUSED_LINGER_MS).unref();
  stream.owner = { closed: () => clearTimeout(timer) };
}
