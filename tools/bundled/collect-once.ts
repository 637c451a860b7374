// Part of every bundle. What starting took is garbage soon after, and a program that waits would keep it for hours: nothing
// makes V8 look (docs/decisions/0004-node-memory.md). `gc` is there with `--expose-gc`, which our programs are started with.

/** By then a mesh that starts has come up. */
const SETTLED_MS = 15_000;
/** A heap beyond that belongs to a program at work: V8 collects it anyway, and a pause would be felt. */
const QUIET_HEAP_BYTES = 64 << 20;

setTimeout(() => {
  if (process.memoryUsage().heapUsed < QUIET_HEAP_BYTES) globalThis.gc?.();
}, SETTLED_MS).unref();
