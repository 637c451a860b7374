// The level-triggered work queue under every controller: keys, not events. A key waits at most once, never runs twice at
// once, and comes back with growing delays when its reconciliation fails.

import { Backoff } from '#base/backoff.ts';
import { reasonOf } from '#base/errors.ts';
import { apiStatusOf } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';

export interface WorkQueue {
  /** Soon; while the key is being worked on, once more afterwards. */
  add(key: string): void;
  /** Not before the delay has passed; the earliest of several calls counts. */
  addAfter(key: string, delayMs: number): void;
  /** Keys added before wait until here: caches must be complete first. */
  start(): void;
  close(): void;
}

export interface WorkQueueOptions {
  readonly name: string;
  /** Keys worked on at the same time. */
  readonly concurrency?: number;
  readonly retry?: { readonly initialMs: number; readonly maxMs: number };
}

const RETRY = { initialMs: 50, maxMs: 30_000 } as const;
const CONCURRENCY = 4;

export function createWorkQueue(
  deps: { readonly log: Logger },
  options: WorkQueueOptions,
  reconcile: (key: string) => Promise<void>,
): WorkQueue {
  return new KeyedQueue(deps.log, options, reconcile);
}

class KeyedQueue implements WorkQueue {
  readonly #log: Logger;
  readonly #options: WorkQueueOptions;
  readonly #reconcile: (key: string) => Promise<void>;
  /** In the order of arrival; a Set, so that a key waits once. */
  readonly #waiting = new Set<string>();
  readonly #running = new Set<string>();
  readonly #timers = new Map<string, { readonly dueMs: number; readonly timer: NodeJS.Timeout }>();
  readonly #failures = new Map<string, Backoff>();
  #state: 'new' | 'started' | 'closed' = 'new';

  constructor(log: Logger, options: WorkQueueOptions, reconcile: (key: string) => Promise<void>) {
    this.#log = log;
    this.#options = options;
    this.#reconcile = reconcile;
  }

  add(key: string): void {
    if (this.#state === 'closed') return;
    this.#waiting.add(key);
    this.#pump();
  }

  addAfter(key: string, delayMs: number): void {
    if (this.#state === 'closed') return;
    const dueMs = performance.now() + delayMs;
    const earlier = this.#timers.get(key);
    if (earlier !== undefined) {
      if (earlier.dueMs <= dueMs) return;
      clearTimeout(earlier.timer);
    }
    const timer = setTimeout(() => {
      this.#timers.delete(key);
      this.add(key);
    }, delayMs);
    this.#timers.set(key, { dueMs, timer });
  }

  start(): void {
    if (this.#state !== 'new') return;
    this.#state = 'started';
    this.#pump();
  }

  close(): void {
    this.#state = 'closed';
    this.#waiting.clear();
    for (const { timer } of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  #pump(): void {
    if (this.#state !== 'started') return;
    const limit = this.#options.concurrency ?? CONCURRENCY;
    for (const key of this.#waiting) {
      if (this.#running.size >= limit) return;
      if (this.#running.has(key)) continue;
      this.#waiting.delete(key);
      this.#running.add(key);
      void this.#run(key);
    }
  }

  /** Never rejects. */
  async #run(key: string): Promise<void> {
    try {
      await this.#reconcile(key);
      this.#failures.delete(key);
    } catch (error) {
      if (this.#state !== 'closed') this.#retry(key, error);
    }
    this.#running.delete(key);
    this.#pump();
  }

  #retry(key: string, error: unknown): void {
    const { name, retry = RETRY } = this.#options;
    const backoff = this.#failures.get(key) ?? new Backoff({ ...retry, jitter: 0.2 });
    this.#failures.set(key, backoff);
    // Another writer was faster, or the namespace is going away: part of the game.
    const status = apiStatusOf(error)?.status;
    const level = status === 409 || status === 404 || status === 403 ? 'debug' : 'warn';
    this.#log[level](`${name}: ${key} failed; trying again`, { error: reasonOf(error) });
    this.addAfter(key, backoff.next());
  }
}
