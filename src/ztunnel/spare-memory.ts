// What bulk leaves behind is given back when a thread is quiet again: buffers of the pools, V8's garbage, and the free pages
// that malloc would keep (docs/decisions/0020-spare-memory.md). The only sign of bulk is that a pool had to make a buffer, so
// nothing is counted where bytes pass, and a proxy that has enough buffers has no timer.

import type { Clock } from '#base/clock.ts';
import type { Scope } from '#base/scope.ts';
import type { BufferPool } from '#hbone/buffer-pool.ts';

export interface SpareMemoryDeps {
  readonly clock: Clock;
  readonly scope: Scope;
  /** How busy the event loop was since it was asked last, from 0 to 1. */
  readonly busyShare: () => number;
  /** Collects and gives back: tens of milliseconds in which nothing else happens. */
  readonly release: () => void;
}

/** A look after this time, and again until the thread is quiet. */
export const LOOK_EVERY_MS = 5000;
/** Quiet: busier than this it uses what it has, and would feel the pause. */
const QUIET_SHARE = 0.02;
const AT_MOST_EVERY_MS = 60_000;
/** Of each pool, for what comes next. */
const STOCK_BYTES = 256 * 1024;

export function giveBackSpareMemory(deps: SpareMemoryDeps, pools: readonly BufferPool[]): void {
  const { clock, scope } = deps;
  let releasedMs = Number.NEGATIVE_INFINITY;
  let isWaiting = false;
  const wait = (): void => {
    isWaiting = true;
    deps.busyShare();
    scope.timeout(LOOK_EVERY_MS, look);
  };
  const look = (): void => {
    if (clock.monotonicMs() - releasedMs < AT_MOST_EVERY_MS || deps.busyShare() > QUIET_SHARE) {
      wait();
      return;
    }
    isWaiting = false;
    releasedMs = clock.monotonicMs();
    for (const pool of pools) pool.shrink(STOCK_BYTES);
    deps.release();
  };
  for (const pool of pools)
    pool.onFresh = () => {
      if (!isWaiting && !scope.closed) wait();
    };
}
