// How long to wait before the next xDS stream, by how the last one ended (ztunnel.md §3.5).

import type { StreamEnd } from './transport.ts';

export const RECONNECT_INITIAL_MS = 10;
export const RECONNECT_MAX_MS = 15_000;

const CANCELLED = 1;
const UNKNOWN = 2;
const DEADLINE_EXCEEDED = 4;
const UNAVAILABLE = 14;

export interface Delay {
  readonly sleepMs: number;
  /** What to pass in at the next end. */
  readonly backoffMs: number;
}

/** Ends that belong to the life of a server (restart, rebalance) start over; everything else doubles up to 15 s. */
export function nextDelay(end: StreamEnd, backoffMs: number): Delay {
  // The field does not wait at all after a clean end; the shortest delay keeps a server that hangs up at once from
  // costing a core.
  if (end.kind === 'clean' || isOrdinary(end))
    return { sleepMs: RECONNECT_INITIAL_MS, backoffMs: RECONNECT_INITIAL_MS };
  // Local failures included: the field retries them without delay and admits the loop (ztunnel.md §14.2).
  const sleepMs = Math.min(RECONNECT_MAX_MS, backoffMs * 2);
  return { sleepMs, backoffMs: sleepMs };
}

export function terminationReason(end: StreamEnd): 'ConnectionError' | 'Error' | 'Reconnect' | 'Complete' {
  if (end.kind === 'clean') return 'Complete';
  if (end.kind === 'unreachable') return 'ConnectionError';
  return isOrdinary(end) ? 'Reconnect' : 'Error';
}

function isOrdinary(end: StreamEnd): boolean {
  if (end.kind !== 'status') return false;
  if (end.code === UNKNOWN || end.code === CANCELLED || end.code === DEADLINE_EXCEEDED) return true;
  return end.code === UNAVAILABLE && /transport is closing|received prior goaway/i.test(end.message);
}
