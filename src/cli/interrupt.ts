// The end that a person asks for. The first signal ends in order; one more, a moment later, ends at once.

/**
 * npm passes on to its script a Ctrl-C that the terminal has sent to the script already: what comes within this time is
 * still the same press.
 */
const SAME_PRESS_MS = 500;

export interface InterruptHandlers {
  readonly monotonicMs: () => number;
  readonly inOrder: () => void;
  readonly atOnce: () => void;
}

/** What to call at each signal. */
export function interruptHandler({ monotonicMs, inOrder, atOnce }: InterruptHandlers): () => void {
  let firstMs: number | undefined;
  return () => {
    const nowMs = monotonicMs();
    if (firstMs === undefined) {
      firstMs = nowMs;
      inOrder();
    } else if (nowMs - firstMs >= SAME_PRESS_MS) {
      atOnce();
    }
  };
}
