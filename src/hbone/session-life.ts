// What both ends do with a session beside streams: the shared state of a data plane's sessions, and keepalive.

import { type Clock, systemClock } from '#base/clock.ts';
import { newBlockPool } from './http2/byte-queue.ts';
import { newOutboxPool } from './http2/outbox.ts';
import { ReceiveBudget, type SharedCount } from './http2/receive-budget.ts';
import type { Session, SessionShared } from './http2/session.ts';
import type { SessionLimits } from './settings.ts';

/** OpenSSL hands out one record at a time, 16 KiB at most. */
const READ_BUFFER_BYTES = 64 * 1024;

/** Made once per data path: its sessions share buffers and the bound of unread bytes, which `unread` spans over threads. */
export function createSessionShared(clock: Clock = systemClock, unread?: SharedCount): SessionShared {
  return {
    outboxes: newOutboxPool(),
    blocks: newBlockPool(),
    budget: new ReceiveBudget(undefined, unread),
    readBuffer: Buffer.allocUnsafeSlow(READ_BUFFER_BYTES),
    monotonicMs: () => clock.monotonicMs(),
  };
}

/**
 * First after the interval, then an interval after each answer; at most one PING is in flight (ztunnel.md §5.4).
 * Returns how to stop, to be called when the session is over.
 */
export function keepAlive(session: Session, limits: SessionLimits, onSilent: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const waitForPong = (): void => {
    session.relieve();
    timer = setTimeout(() => {
      onSilent();
      session.cut(`the peer did not answer a ping within ${limits.pingTimeoutMs} ms`);
    }, limits.pingTimeoutMs).unref();
    session.ping(() => {
      clearTimeout(timer);
      waitToPing();
    });
  };
  const waitToPing = (): void => {
    if (!session.isOver) timer = setTimeout(waitForPong, limits.pingIntervalMs).unref();
  };
  waitToPing();
  return () => clearTimeout(timer);
}
