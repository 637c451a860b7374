// Exponential back-off as a small state: next() grows, reset() starts over.

import type { Random } from './clock.ts';

export interface BackoffOptions {
  readonly initialMs: number;
  readonly maxMs: number;
  /** Growth per failure; 2 unless told otherwise. */
  readonly factor?: number;
  /** 0.2 spreads a delay over ±20 %; none unless told otherwise. */
  readonly jitter?: number;
  readonly random?: Random;
}

export class Backoff {
  readonly #options: BackoffOptions;
  #currentMs: number;

  constructor(options: BackoffOptions) {
    this.#options = options;
    this.#currentMs = options.initialMs;
  }

  /** The delay before the next try, in milliseconds. */
  next(): number {
    const { maxMs, factor = 2, jitter = 0, random = Math.random } = this.#options;
    const baseMs = Math.min(this.#currentMs, maxMs);
    this.#currentMs = Math.min(this.#currentMs * factor, maxMs);
    return Math.min(maxMs, baseMs * (1 + jitter * (2 * random() - 1)));
  }

  reset(): void {
    this.#currentMs = this.#options.initialMs;
  }
}
