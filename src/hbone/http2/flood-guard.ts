// Frames that cost us work and bring the peer nothing are counted: each takes a token, and tokens come back with time.
// An honest peer never gets near the end (RFC 9113 §10.5). The figures leave room for a node whose applications abort a
// thousand connections a second: each of them is a reset.

import { ENHANCE_YOUR_CALM, SessionError } from './errors.ts';

const BURST = 10_000;
const PER_SECOND = 1000;

export class FloodGuard {
  readonly #monotonicMs: () => number;
  #tokens = BURST;
  #refilledAtMs: number;

  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
    this.#refilledAtMs = monotonicMs();
  }

  /** Throws SessionError with ENHANCE_YOUR_CALM when there are none left; `what` names the frames in the plural. */
  take(what: string, tokens = 1): void {
    this.#tokens -= tokens;
    if (this.#tokens >= 0) return;
    // The clock is read only here, once in thousands of frames.
    const nowMs = this.#monotonicMs();
    this.#tokens += ((nowMs - this.#refilledAtMs) * PER_SECOND) / 1000;
    this.#tokens = Math.min(this.#tokens, BURST);
    this.#refilledAtMs = nowMs;
    if (this.#tokens < 0) throw new SessionError(ENHANCE_YOUR_CALM, `the peer floods us with ${what}`);
  }
}
