// Memory that is free and still held by the process: V8 and malloc look for it when they need some, not when nobody does.

import { performance } from 'node:perf_hooks';
import { libc } from './libc.ts';

/** Collects, and gives every free page of malloc back, between blocks in use as well (malloc_trim(3)). Takes tens of milliseconds. */
export function releaseFreedMemory(): void {
  // Where the program was started with --expose-gc, as all of ours are.
  globalThis.gc?.();
  libc.malloc_trim(0);
}

/** Of the calling thread: its heap, and how busy its event loop was since it was asked last, from 0 to 1. */
export function threadMemory(): { readonly busyShare: () => number; readonly release: () => void } {
  let last = performance.eventLoopUtilization();
  return {
    busyShare: () => {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, last);
      last = now;
      return utilization;
    },
    release: releaseFreedMemory,
  };
}
