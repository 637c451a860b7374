// What start-up is doing, one line a step with its time. On a terminal the running step is shown while it runs.

import type { Style } from '../style.ts';

export interface Steps {
  /** Runs the work under a name; a failure marks the step and is passed on. */
  run<T>(name: string, work: () => Promise<T>): Promise<T>;
  /** A step that was timed elsewhere. */
  done(name: string, durationMs: number): void;
  note(text: string): void;
}

export interface StepsDeps {
  readonly write: (text: string) => void;
  readonly isTerminal: boolean;
  readonly style: Style;
  readonly monotonicMs: () => number;
}

export function createSteps({ write, isTerminal, style, monotonicMs }: StepsDeps): Steps {
  const finish = (mark: string, name: string, durationMs: number): void => {
    const time = `${(durationMs / 1000).toFixed(1)} s`;
    write(`${isTerminal ? '\r\u001b[K' : ''}  ${mark} ${name.padEnd(52)} ${style.dim(time.padStart(7))}\n`);
  };
  return {
    async run(name, work) {
      const startedAt = monotonicMs();
      if (isTerminal) write(`  ${style.dim('…')} ${name}`);
      try {
        const result = await work();
        finish(style.good('✓'), name, monotonicMs() - startedAt);
        return result;
      } catch (error) {
        finish(style.bad('✗'), name, monotonicMs() - startedAt);
        throw error;
      }
    },
    done: (name, durationMs) => finish(style.good('✓'), name, durationMs),
    note: (text) => write(`${isTerminal ? '\r\u001b[K' : ''}    ${style.dim(text)}\n`),
  };
}
