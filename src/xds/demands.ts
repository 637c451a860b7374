// Names that somebody waits for on an on-demand subscription (ztunnel.md §3.3). The field waits for ever; a limit here,
// because a connection that never ends and never begins helps nobody.

import type { Scope } from '#base/scope.ts';

/**
 * `answered`: what there is under the name is in the store now, be it nothing. `refused`: it came and could not be read.
 * `silent`: the server has not said.
 */
export type DemandOutcome = 'answered' | 'refused' | 'silent';

interface Waiting {
  readonly promise: Promise<DemandOutcome>;
  readonly settle: (outcome: DemandOutcome) => void;
}

export class Demands {
  readonly #scope: Scope;
  readonly #limitMs: number;
  readonly #waiting = new Map<string, Waiting>();

  constructor(scope: Scope, limitMs: number) {
    this.#scope = scope;
    this.#limitMs = limitMs;
  }

  /** All who wait for a name share one wait; `ask` is called for the first of them. */
  wait(name: string, ask: () => void): Promise<DemandOutcome> {
    const known = this.#waiting.get(name);
    if (known !== undefined) return known.promise;
    const { promise, resolve } = Promise.withResolvers<DemandOutcome>();
    const settle = (outcome: DemandOutcome): void => {
      this.#waiting.delete(name);
      cancelTimer();
      forgetScope();
      resolve(outcome);
    };
    const cancelTimer = this.#scope.timeout(this.#limitMs, () => settle('silent'));
    const forgetScope = this.#scope.onClose(() => resolve('silent'));
    this.#waiting.set(name, { promise, settle });
    ask();
    return promise;
  }

  settle(name: string, outcome: DemandOutcome): void {
    this.#waiting.get(name)?.settle(outcome);
  }

  names(): Iterable<string> {
    return this.#waiting.keys();
  }

  get size(): number {
    return this.#waiting.size;
  }
}
