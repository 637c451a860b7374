// Which pods should be captured and are not: counted, and told of when it lasts. In a mesh whose promise is that nothing
// of its pods travels in the clear, this is the line that somebody must see.

import type { Clock } from '#base/clock.ts';
import type { Logger } from '#telemetry/log.ts';

/** `captured`: redirected and served. `waiting`: redirected, so closed to everybody, until a ztunnel serves it. */
export type Protection = 'captured' | 'waiting' | 'unprotected';

export interface ObservedPod {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly protection: Protection;
  /** Why the last attempt failed. */
  readonly reason?: string;
}

export interface ProtectionDeps {
  /** The pods of this node that belong to the mesh and have an address. */
  readonly observe: () => Iterable<ObservedPod>;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly log: Logger;
}

export interface ProtectionWatch {
  count(protection: Protection): number;
  /** To be called every few seconds. */
  check(): void;
}

/** A pod that gets its label is unprotected for a moment; this long is no moment. */
const ALARM_AFTER_MS = 10_000;

export function createProtectionWatch(deps: ProtectionDeps): ProtectionWatch {
  const { observe, clock, log } = deps;
  const since = new Map<string, { readonly atMs: number; told: boolean }>();

  return {
    count: (protection) => {
      let count = 0;
      for (const pod of observe()) if (pod.protection === protection) count += 1;
      return count;
    },
    check() {
      const nowMs = clock.monotonicMs();
      const open = new Set<string>();
      for (const { uid, namespace, name, protection, reason } of observe()) {
        const pod = { ns: namespace, name };
        if (protection !== 'unprotected') {
          if (since.get(uid)?.told === true) log.info('the pod is captured now', pod);
          continue;
        }
        open.add(uid);
        const entry = since.get(uid) ?? { atMs: nowMs, told: false };
        since.set(uid, entry);
        if (entry.told || nowMs - entry.atMs < ALARM_AFTER_MS) continue;
        entry.told = true;
        log.error(
          'a pod of the mesh is not captured: its traffic is in the clear and no policy holds for it',
          {
            ...pod,
            forSeconds: Math.round((nowMs - entry.atMs) / 1000),
            reason: reason ?? 'not yet tried',
          },
        );
      }
      for (const uid of [...since.keys()]) if (!open.has(uid)) since.delete(uid);
    },
  };
}
