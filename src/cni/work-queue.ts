// Work by key: one run at a time for each key, a few at once over all keys, repeated with growing pauses until it
// succeeds. A key that is asked for while it runs, runs once more afterwards.

import { Backoff, type BackoffOptions } from '#base/backoff.ts';

export interface WorkQueue {
  schedule(key: string): void;
  /** Runs `work` alone for this key: after a run in progress, before any later one. */
  exclusive<T>(key: string, work: () => Promise<T>): Promise<T>;
  /** Nothing starts any more; resolves when what runs has ended. */
  close(): Promise<void>;
}

export interface WorkQueueDeps {
  /** Must be safe to repeat. A rejection is retried. */
  readonly run: (key: string) => Promise<void>;
  readonly onFailure: (key: string, error: unknown, retryMs: number) => void;
}

export interface WorkQueueOptions {
  readonly concurrency: number;
  readonly retry: BackoffOptions;
}

interface KeyState {
  /** The tail of what runs for this key; never rejects. */
  tail: Promise<unknown>;
  isScheduled: boolean;
  users: number;
  readonly backoff: Backoff;
  timer: NodeJS.Timeout | undefined;
}

export function createWorkQueue(deps: WorkQueueDeps, options: WorkQueueOptions): WorkQueue {
  const states = new Map<string, KeyState>();
  const waitingForSlot: (() => void)[] = [];
  let running = 0;
  let isClosed = false;

  const stateOf = (key: string): KeyState => {
    let state = states.get(key);
    if (state === undefined) {
      state = {
        tail: Promise.resolve(),
        isScheduled: false,
        users: 0,
        backoff: new Backoff(options.retry),
        timer: undefined,
      };
      states.set(key, state);
    }
    return state;
  };

  const forgetIfIdle = (key: string, state: KeyState): void => {
    if (state.users === 0 && state.timer === undefined && !state.isScheduled) states.delete(key);
  };

  const chain = <T>(key: string, work: () => Promise<T>): Promise<T> => {
    const state = stateOf(key);
    state.users++;
    const result = state.tail.then(work);
    state.tail = result
      .catch(() => {})
      .then(() => {
        state.users--;
        forgetIfIdle(key, state);
      });
    return result;
  };

  const withSlot = async (work: () => Promise<void>): Promise<void> => {
    if (running < options.concurrency) running++;
    // Whoever ends hands the slot over: counted as free it could be taken by somebody else before the waiting one wakes.
    else await new Promise<void>((resolve) => waitingForSlot.push(resolve));
    try {
      if (!isClosed) await work();
    } finally {
      const next = waitingForSlot.shift();
      if (next === undefined) running--;
      else next();
    }
  };

  const runOnce = async (key: string, state: KeyState): Promise<void> => {
    state.isScheduled = false;
    if (isClosed) return;
    try {
      await withSlot(() => deps.run(key));
      state.backoff.reset();
    } catch (error) {
      if (isClosed) return;
      const retryMs = state.backoff.next();
      deps.onFailure(key, error, retryMs);
      clearTimeout(state.timer);
      state.timer = setTimeout(() => {
        state.timer = undefined;
        schedule(key);
      }, retryMs);
    }
  };

  function schedule(key: string): void {
    if (isClosed) return;
    const state = stateOf(key);
    if (state.isScheduled) return;
    state.isScheduled = true;
    // A change of the world is worth a try before the pause is over.
    clearTimeout(state.timer);
    state.timer = undefined;
    // runOnce handles every failure of the work itself.
    chain(key, () => runOnce(key, state)).catch(() => {});
  }

  return {
    schedule,
    exclusive: chain,
    async close() {
      isClosed = true;
      for (const wake of waitingForSlot.splice(0)) wake();
      const tails = [...states.values()].map((state) => {
        clearTimeout(state.timer);
        return state.tail;
      });
      await Promise.all(tails);
    },
  };
}
