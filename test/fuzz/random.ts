// Random numbers that can be had again from their seed: every run of the fuzzer can be repeated.

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 32 bits; the generator "mulberry32" (public domain, Tommy Ettinger). */
  bits(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor((this.bits() / 2 ** 32) * limit);
  }

  /** Of at least one. */
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
}

/** A seed for each target of a run, so that leaving out one changes nothing for the others. */
export function seedFor(seed: number, name: string): number {
  let mixed = seed >>> 0;
  for (let at = 0; at < name.length; at++) mixed = Math.imul(mixed ^ name.charCodeAt(at), 0x01000193) >>> 0;
  return mixed;
}
