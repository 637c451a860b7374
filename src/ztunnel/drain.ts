// Shutting down in order (ztunnel.md §1.7): listeners close at once, live connections get until the deadline.

import type { Scope } from '#base/scope.ts';

export interface Drainable {
  /** Stop taking new work; what is under way goes on. */
  startDrain(): void;
  readonly liveCount: number;
  /** Called when `liveCount` has become 0; returns how to stop listening. */
  onIdle(run: () => void): () => void;
  /** What is still under way ends now. */
  cut(): void;
}

export type DrainResult = { readonly kind: 'finished' } | { readonly kind: 'deadline'; readonly cut: number };

/** Resolves when nothing is left, or at the deadline after the rest was cut. */
export function drain(target: Drainable, deadlineMs: number, scope: Scope): Promise<DrainResult> {
  return new Promise((resolve) => {
    target.startDrain();
    if (target.liveCount === 0) {
      resolve({ kind: 'finished' });
      return;
    }
    const stopListening = target.onIdle(() => {
      stopListening();
      cancelDeadline();
      resolve({ kind: 'finished' });
    });
    const cancelDeadline = scope.timeout(deadlineMs, () => {
      stopListening();
      const cut = target.liveCount;
      target.cut();
      resolve({ kind: 'deadline', cut });
    });
  });
}
