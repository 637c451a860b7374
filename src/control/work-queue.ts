// Keys that need work, one at a time: a key that fails comes back later, a key added during its own run runs again.

import { Backoff } from '#base/backoff.ts';
import { reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import { apiStatusOf } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';

export interface WorkQueueDeps {
  readonly log: Logger;
  readonly scope: Scope;
  /** Brings the world in line with what is wanted for this key. Level-triggered: it looks, then acts. */
  readonly work: (key: string) => Promise<void>;
}

export interface WorkQueueOptions {
  readonly retryInitialMs: number;
  readonly retryMaxMs: number;
}

export class WorkQueue {
  readonly #deps: WorkQueueDeps;
  readonly #options: WorkQueueOptions;
  readonly #waiting = new Set<string>();
  readonly #failures = new Map<string, Backoff>();
  #running = false;

  constructor(deps: WorkQueueDeps, options: WorkQueueOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  add(key: string): void {
    if (this.#deps.scope.closed) return;
    this.#waiting.add(key);
    if (this.#running) return;
    this.#running = true;
    this.#run().catch((error: unknown) => {
      // Only a defect of this class gets here: failures of the work are dealt with per key.
      this.#running = false;
      this.#deps.log.error('work queue stopped', { error: reasonOf(error) });
    });
  }

  async #run(): Promise<void> {
    const { log, scope, work } = this.#deps;
    for (const key of this.#waiting) {
      if (scope.closed) break;
      this.#waiting.delete(key);
      try {
        await work(key);
        this.#failures.delete(key);
      } catch (error) {
        if (scope.closed) break;
        const delayMs = Math.max(this.#backoffOf(key).next(), apiStatusOf(error)?.retryAfterMs ?? 0);
        log.warn('work failed; it will be tried again', {
          key,
          error: reasonOf(error),
          delayMs: Math.round(delayMs),
        });
        scope.timeout(delayMs, () => this.add(key));
      }
    }
    this.#running = false;
  }

  #backoffOf(key: string): Backoff {
    const known = this.#failures.get(key);
    if (known !== undefined) return known;
    const { retryInitialMs: initialMs, retryMaxMs: maxMs } = this.#options;
    const made = new Backoff({ initialMs, maxMs, jitter: 0.2 });
    this.#failures.set(key, made);
    return made;
  }
}
