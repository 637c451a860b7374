// Who looked at what: the way back from a change to everything that was computed from what changed.
//
// A *unit* is one thing that is computed (a pod's workload, a service's record). While it is computed, each look-up by
// name leaves a *token*; a later change of what the token names marks the unit. So a dependency cannot be forgotten
// where the computation itself makes it. Dependencies by label selector have no name and stand in ambient-index.ts.

import { GroupIndex } from './group-index.ts';

const NOTHING: readonly string[] = [];

export class Reads {
  readonly #readers = new GroupIndex();
  readonly #tokens = new Map<string, readonly string[]>();

  /** What the unit looked at this time, each once; what it looked at before is forgotten. */
  record(unit: string, now: readonly string[]): void {
    const before = this.#tokens.get(unit) ?? NOTHING;
    if (before.length === now.length && before.every((token, index) => token === now[index])) return;
    for (const token of before) this.#readers.remove(token, unit);
    for (const token of now) this.#readers.add(token, unit);
    if (now.length === 0) this.#tokens.delete(unit);
    else this.#tokens.set(unit, now);
  }

  /** What the unit looked at when it was computed last. */
  tokensOf(unit: string): readonly string[] {
    return this.#tokens.get(unit) ?? NOTHING;
  }

  /** A copy: marking may lead to other reads. */
  readersOf(token: string): string[] {
    return [...this.#readers.get(token)];
  }
}
