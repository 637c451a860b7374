// Log lines of a thread, written by the owner: whole lines whatever threads say at once. Where nobody reads them fast enough the
// thread waits, as it would if it wrote itself, instead of piling them up in memory.

import type { SharedCount } from '#hbone/http2/receive-budget.ts';

const MOST_UNWRITTEN = 256 * 1024;

/** The thread's side: hands `text` on, and waits while too much is on its way. */
export function handOn(unwritten: SharedCount, text: string, send: (text: string) => void): void {
  Atomics.add(unwritten, 0, text.length);
  send(text);
  for (;;) {
    const waiting = Atomics.load(unwritten, 0);
    if (waiting <= MOST_UNWRITTEN) return;
    Atomics.wait(unwritten, 0, waiting);
  }
}

/** The owner's side, when `text` has been written. */
export function written(unwritten: SharedCount, text: string): void {
  Atomics.sub(unwritten, 0, text.length);
  Atomics.notify(unwritten, 0);
}
