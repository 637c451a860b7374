// What start-up is doing, one line a step with its time. On a terminal the running step is shown while it runs.

import type { Style } from '../style.ts';
import type { TimedStep } from './time-line.ts';

export interface Steps {
  /** Runs the work under a name; a failure marks the step and is passed on. */
  run<T>(name: string, work: () => Promise<T>): Promise<T>;
  /** A step that was timed elsewhere. */
  done(name: string, durationMs: number): void;
  note(text: string): void;
  /** All that ended well, for the time line. */
  readonly timed: readonly TimedStep[];
}

export interface StepsDeps {
  /** `monotonicMs` when the person pressed return; only the time line asks. */
  readonly startedAtMs?: number;
  readonly write: (text: string) => void;
  readonly isTerminal: boolean;
  readonly style: Style;
  readonly monotonicMs: () => number;
}

export function createSteps({ write, isTerminal, style, monotonicMs, startedAtMs = 0 }: StepsDeps): Steps {
  const finish = (mark: string, name: string, durationMs: number): void => {
    const time = `${(durationMs / 1000).toFixed(1)} s`;
    write(`${isTerminal ? '\r\u001b[K' : ''}  ${mark} ${name.padEnd(52)} ${style.dim(time.padStart(7))}\n`);
  };
  const timed: TimedStep[] = [];
  const succeed = (name: string, durationMs: number): void => {
    const endMs = monotonicMs() - startedAtMs;
    timed.push({ name, startMs: endMs - durationMs, endMs });
    finish(style.good('✓'), name, durationMs);
  };
  return {
    timed,
    async run(name, work) {
      const startedAt = monotonicMs();
      if (isTerminal) write(`  ${style.dim('…')} ${name}`);
      try {
        const result = await work();
        succeed(name, monotonicMs() - startedAt);
        return result;
      } catch (error) {
        finish(style.bad('✗'), name, monotonicMs() - startedAt);
        throw error;
      }
    },
    done: succeed,
    note: (text) => write(`${isTerminal ? '\r\u001b[K' : ''}    ${style.dim(text)}\n`),
  };
}
