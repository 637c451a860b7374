// Whether and when an ended container starts again (pure). The field's rule: at once the first time, then 10 s doubling to
// five minutes, forgotten after a run of ten minutes.

export type RestartPolicy = 'Always' | 'OnFailure' | 'Never';

const FIRST_DELAY_MS = 10_000;
const MAX_DELAY_MS = 300_000;
const FORGET_AFTER_MS = 600_000;

export function shouldRestart(policy: RestartPolicy, exitCode: number): boolean {
  return policy === 'Always' || (policy === 'OnFailure' && exitCode !== 0);
}

/** The delay that the next end of a container causes; kept per container. */
export interface RestartDelay {
  readonly nextMs: number;
}

export const NO_DELAY: RestartDelay = { nextMs: 0 };

/** `ranMs` is how long the run lasted that ended now. */
export function delayAfterEnd(former: RestartDelay, ranMs: number): { waitMs: number; delay: RestartDelay } {
  const waitMs = ranMs >= FORGET_AFTER_MS ? 0 : former.nextMs;
  const nextMs = waitMs === 0 ? FIRST_DELAY_MS : Math.min(waitMs * 2, MAX_DELAY_MS);
  return { waitMs, delay: { nextMs } };
}

/** `10s`, `1m20s`: as CrashLoopBackOff messages write it. */
export function formatDelay(delayMs: number): string {
  const seconds = Math.round(delayMs / 1000);
  const minutes = Math.floor(seconds / 60);
  return minutes === 0 ? `${seconds}s` : `${minutes}m${seconds % 60}s`;
}
