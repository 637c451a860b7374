// How many streams may begin: a server that has just started is found by all clients at once (control-plane.md §4.1).

import { sleep } from '#base/clock.ts';
import { GRPC_RESOURCE_EXHAUSTED, statusError } from '#grpc/status.ts';

/** A stream costs less here than where the field's limit comes from: what is sent is encoded once for all. */
export const DEFAULT_NEW_STREAMS_PER_SECOND = 100;
const MAX_WAIT_MS = 1000;

/** A token bucket of one second's depth; who would wait longer than a second is turned away. */
export function rateLimit(
  perSecond: number,
  now: () => number = () => performance.now(),
): () => Promise<void> {
  let tokens = perSecond;
  let filledAt = now();
  return async () => {
    const at = now();
    tokens = Math.min(perSecond, tokens + ((at - filledAt) / 1000) * perSecond);
    filledAt = at;
    const waitMs = tokens >= 1 ? 0 : ((1 - tokens) / perSecond) * 1000;
    if (waitMs > MAX_WAIT_MS) throw statusError(GRPC_RESOURCE_EXHAUSTED, 'too many new streams; try again');
    tokens--;
    if (waitMs > 0) await sleep(waitMs);
  };
}
