// Shutting down in order (ztunnel.md §1.7): listeners close at once, what is live gets until the deadline.

import type { Scope } from '#base/scope.ts';

export interface Drainable {
  /** Stop taking new work; what is under way goes on. */
  startDrain(): void;
  /** Connections, tunnels, and whatever may yet become one. */
  readonly liveCount: number;
  /** What is still under way ends now; returns how many connections that were. */
  cut(): number;
}

export type DrainResult = { readonly kind: 'finished' } | { readonly kind: 'deadline'; readonly cut: number };

const LOOK_EVERY_MS = 50;

/** Resolves when nothing is left, or at the deadline after the rest was cut. */
export function drain(target: Drainable, deadlineMs: number, scope: Scope): Promise<DrainResult> {
  return new Promise((resolve) => {
    target.startDrain();
    let wasIdle = false;
    let stopLooking = (): void => {};
    const look = (): void => {
      const isIdle = target.liveCount === 0;
      // Twice in a row: the last bytes of what has just ended are on their way to the kernel.
      if (isIdle && wasIdle) {
        stopDeadline();
        resolve({ kind: 'finished' });
        return;
      }
      wasIdle = isIdle;
      stopLooking = scope.timeout(LOOK_EVERY_MS, look);
    };
    const stopDeadline = scope.timeout(deadlineMs, () => {
      stopLooking();
      resolve({ kind: 'deadline', cut: target.cut() });
    });
    look();
  });
}
