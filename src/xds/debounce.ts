// Gathers changed names until they have been quiet for a while, or for too long (control-plane.md §4.7).

import type { Scope } from '#base/scope.ts';

export interface DebounceOptions {
  /** Push after this much quiet. */
  readonly quietMs: number;
  /** Push at the latest this long after the first change. */
  readonly maxMs: number;
}

/** Returns the function that takes changes; `flush` gets each batch's names by type. */
export function debounce(
  scope: Scope,
  options: DebounceOptions,
  flush: (changed: ReadonlyMap<string, ReadonlySet<string>>) => void,
): (typeUrl: string, names: ReadonlySet<string>) => void {
  let changed = new Map<string, Set<string>>();
  let deadline = 0;
  let stopTimer: (() => void) | undefined;
  const fire = (): void => {
    const batch = changed;
    changed = new Map();
    stopTimer = undefined;
    flush(batch);
  };
  return (typeUrl, names) => {
    if (scope.closed || names.size === 0) return;
    const now = performance.now();
    if (changed.size === 0) deadline = now + options.maxMs;
    const known = changed.get(typeUrl);
    if (known === undefined) changed.set(typeUrl, new Set(names));
    else for (const name of names) known.add(name);
    stopTimer?.();
    stopTimer = scope.timeout(Math.max(0, Math.min(options.quietMs, deadline - now)), fire);
  };
}
