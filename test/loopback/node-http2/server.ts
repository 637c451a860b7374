// The oracle's inbound side: node:http2 behind our TLS border, one request per CONNECT (ztunnel.md §5.3, §7.1 items 1–2).
// Whether a request is allowed, and where it leads, is its owner's decision.

import http2, { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { HbonePeer, HboneRequest, HboneServer } from '#hbone/hbone.ts';
import { ordinaryHeaders } from '#hbone/http2/header-rules.ts';
import type { HboneServerDeps, HboneServerLimits } from '#hbone/server.ts';
import { SESSION_LIMITS } from '#hbone/settings.ts';
import { createTlsBorder } from '#hbone/tls-border.ts';
import { keepAlive, SessionLife, widenConnectionWindow } from './session.ts';
import { serverSessionOptions } from './settings.ts';
import { Http2HboneStream } from './stream.ts';

/** Without `sendDate`, which the declared type lacks, node:http2 adds a header that the field's peers do not send. */
const ACCEPTED = { endStream: false, sendDate: false };
const REFUSED = { endStream: true, sendDate: false };

const REFUSED_LINGER_MS = 5000;

export function createNodeServer(deps: HboneServerDeps, limits: HboneServerLimits = {}): HboneServer {
  const { log } = deps;
  const sessionLimits = { ...SESSION_LIMITS, ...limits };
  const { maxStreams = 200 } = limits;
  const scope = deps.scope.child('hbone server');
  const sessionOptions = serverSessionOptions(maxStreams);
  const sessions = new Set<SessionLife>();
  let draining = false;

  const border = createTlsBorder(deps, sessionLimits, (socket, peer) => {
    if (draining) {
      socket.destroy();
      return;
    }
    const http = http2.performServerHandshake(socket, sessionOptions);
    const life = new SessionLife(http, log);
    sessions.add(life);
    http.once('close', () => sessions.delete(life));
    http.on('stream', (stream, headers, _flags, rawHeaders) => {
      serveStream(stream, headers, rawHeaders, life, peer, deps.onRequest);
    });
    widenConnectionWindow(http);
    keepAlive(life, sessionLimits, () => log.debug('HBONE peer is silent', { peer: peer.identity }));
  });

  scope.onClose(() => {
    border.close();
    for (const life of [...sessions]) life.cut('this end shut down');
  });

  return {
    accept: border.accept,
    get liveCount() {
      return border.arrivingCount + sessions.size;
    },
    drain() {
      draining = true;
      border.refuseNew();
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
