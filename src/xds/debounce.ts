// Gathers changed names until they have been quiet for a while, or for too long (control-plane.md §4.7). The first change
// after a quiet time is not made to wait for what may never come: most changes are alone.

import type { Scope } from '#base/scope.ts';

export interface DebounceOptions {
  /** Push after this much quiet. */
  readonly quietMs: number;
  /** Push at the latest this long after the first change. */
  readonly maxMs: number;
  /** After this long already, when the last push is `quietMs` ago. `quietMs` unless given. */
  readonly firstMs?: number;
}

/** By type: names. */
export type ChangedNames = ReadonlyMap<string, ReadonlySet<string>>;

/**
 * Returns the function that takes changes; `flush` gets each batch's names by type, and when the first of them came
 * (by `monotonicMs`).
 */
export function debounce(
  scope: Scope,
  options: DebounceOptions,
  flush: (changed: ChangedNames, changedAt: number) => void,
  monotonicMs: () => number = () => performance.now(),
): (typeUrl: string, names: ReadonlySet<string>) => void {
  const firstMs = Math.min(options.firstMs ?? options.quietMs, options.quietMs);
  let changed = new Map<string, Set<string>>();
  let changedAt = 0;
  let flushedAt = Number.NEGATIVE_INFINITY;
  /** The batch goes out early, whatever comes in meanwhile. */
  let early = false;
  let stopTimer: (() => void) | undefined;
  const fire = (): void => {
    const batch = changed;
    changed = new Map();
    stopTimer = undefined;
    flushedAt = monotonicMs();
    flush(batch, changedAt);
  };
  return (typeUrl, names) => {
    if (scope.closed || names.size === 0) return;
    const now = monotonicMs();
    const isFirst = changed.size === 0;
    if (isFirst) {
      changedAt = now;
      early = firstMs < options.quietMs && now - flushedAt >= options.quietMs;
    }
    const known = changed.get(typeUrl);
    if (known === undefined) changed.set(typeUrl, new Set(names));
    else for (const name of names) known.add(name);
    if (early && !isFirst) return;
    stopTimer?.();
    const waitMs = early ? firstMs : Math.min(options.quietMs, changedAt + options.maxMs - now);
    stopTimer = scope.timeout(Math.max(0, waitMs), fire);
  };
}
