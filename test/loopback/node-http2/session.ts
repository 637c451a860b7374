// What both ends of the oracle do with a session of node:http2: window, keepalive, and the truth about why it ended.

import type { Http2Session } from 'node:http2';
import { reasonOf } from '#base/errors.ts';
import { CONNECTION_WINDOW_BYTES, type SessionLimits } from '#hbone/settings.ts';
import type { Logger } from '#telemetry/log.ts';

/** A session and, once it is over, an operator's words for why. */
export class SessionLife {
  readonly session: Http2Session;
  #endedBecause: string | undefined;

  constructor(session: Http2Session, log: Logger) {
    this.session = session;
    session.on('error', (error) => {
      this.#endedBecause ??= reasonOf(error);
      log.debug('HBONE session failed', { error: reasonOf(error) });
    });
    session.on('goaway', (code) => {
      if (code !== 0) this.#endedBecause ??= `the peer ended the session with GOAWAY code ${code}`;
    });
  }

  /** Ends the session and its streams at once: GOAWAY with NO_ERROR, then close (ztunnel.md §5.4). */
  cut(because: string): void {
    if (this.session.destroyed) return;
    this.#endedBecause ??= because;
    this.session.destroy();
  }

  get over(): boolean {
    return this.session.destroyed;
  }

  get reason(): string {
    return this.#endedBecause ?? 'the peer closed the connection';
  }
}

/** To be called once the session is connected. */
export function widenConnectionWindow(session: Http2Session): void {
  if (!session.destroyed) session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
}

/** First after the interval, then an interval after each answer; at most one PING is in flight (ztunnel.md §5.4). */
export function keepAlive(life: SessionLife, limits: SessionLimits, onSilent: () => void): void {
  const { session } = life;
  let timer: NodeJS.Timeout | undefined;
  const waitForPong = (): void => {
    if (session.destroyed || session.closed) return;
    timer = setTimeout(() => {
      onSilent();
      life.cut(`the peer did not answer a ping within ${limits.pingTimeoutMs} ms`);
    }, limits.pingTimeoutMs).unref();
    session.ping((error) => {
      clearTimeout(timer);
      if (error === null) waitToPing();
    });
  };
  const waitToPing = (): void => {
    if (session.destroyed) return;
    timer = setTimeout(waitForPong, limits.pingIntervalMs).unref();
  };
  session.once('close', () => clearTimeout(timer));
  waitToPing();
}
