// When a node's rules are written: soon after a change, many changes in one go, one write at a time, again after a failure.

import { Backoff } from '#base/backoff.ts';
import { reasonOf } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';

const BATCH_MS = 50;

export interface RuleWriter {
  /** Writes within BATCH_MS, or once more after the write under way. */
  changed(): void;
  /** Waits for a write of the present state; rejects if it fails (it is then tried again). */
  write(): Promise<void>;
  close(): void;
}

/** `apply` brings the kernel to the present state and does nothing when it is there already. */
export function createRuleWriter(
  deps: { readonly log: Logger },
  options: { readonly what: string; readonly node: string },
  apply: () => Promise<void>,
): RuleWriter {
  const backoff = new Backoff({ initialMs: 200, maxMs: 5000 });
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> = Promise.resolve();
  let closed = false;

  const schedule = (delayMs: number): void => {
    if (closed || timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      write().catch(() => {}); // logged and tried again there
    }, delayMs);
  };
  const write = (): Promise<void> => {
    // Changes that come while this one waits or runs set the timer again: nothing is lost.
    const turn = writing.then(() => (closed ? undefined : apply()));
    writing = turn.then(
      () => backoff.reset(),
      (error: unknown) => {
        deps.log.error(`${options.what} could not be written`, {
          node: options.node,
          error: reasonOf(error),
        });
        schedule(backoff.next());
      },
    );
    return turn;
  };
  return {
    changed: () => schedule(BATCH_MS),
    write,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
