// How fast statuses are written: a burst at once, then at a steady rate, so that a new leader of a large mesh does not
// take the API server from everybody else.

import { type Clock, sleep } from '#base/clock.ts';

export class Pace {
  readonly #clock: Clock;
  readonly #perSecond: number;
  readonly #burst: number;
  /** When the burst will be whole again. */
  #fullAtMs = 0;

  constructor(clock: Clock, options: { readonly perSecond: number; readonly burst: number }) {
    this.#clock = clock;
    this.#perSecond = options.perSecond;
    this.#burst = options.burst;
  }

  /** How long the next one has to wait, which is thereby taken. */
  takeMs(): number {
    const now = this.#clock.monotonicMs();
    const stepMs = 1000 / this.#perSecond;
    this.#fullAtMs = Math.max(this.#fullAtMs, now) + stepMs;
    return Math.max(0, this.#fullAtMs - now - this.#burst * stepMs);
  }

  async wait(): Promise<void> {
    const waitMs = this.takeMs();
    if (waitMs > 0) await sleep(waitMs);
  }
}
