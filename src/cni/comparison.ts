// Compares enrolled pods with what is really there (cni.md A.13): one at once when something tells that it may have changed, and
// all of them from time to time. What differs is marked, and the agent considers the pod anew.

import { reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Pod } from '#k8s/objects.ts';
import type { Logger } from '#telemetry/log.ts';
import { type Enrolment, namesOf } from './enrolment.ts';
import type { PodTable } from './pod-table.ts';
import type { WorkQueue } from './work-queue.ts';

export interface ComparisonDeps {
  readonly table: PodTable;
  readonly pod: (uid: string) => Pod | undefined;
  readonly enrolment: Pick<Enrolment, 'verify'>;
  readonly queue: Pick<WorkQueue, 'exclusive'>;
  /** To be asked what is to be done about the pod now. */
  readonly consider: (uid: string) => void;
  /** All pods were compared. */
  readonly onRound: () => void;
  /** The rounds end with it. */
  readonly scope: Scope;
  readonly log: Logger;
}

export interface Comparison {
  /** Its sandbox may be another one. */
  podSoon(uid: string): void;
  /** Its rules were changed, by whomever. */
  rulesSoon(uid: string): void;
  /** Every pod, again and again. */
  startRounds(everyMs: number): void;
}

export function createComparison(deps: ComparisonDeps): Comparison {
  const { table, enrolment, queue, consider, onRound, scope, log } = deps;
  /** Pods whose rules were changed and not yet looked at. */
  const touched = new Set<string>();

  async function compare(uid: string, what: 'rules' | 'all'): Promise<void> {
    await queue.exclusive(uid, () => {
      touched.delete(uid);
      return enrolment.verify(uid, deps.pod(uid), what);
    });
    consider(uid);
  }

  async function compareOrTell(uid: string, what: 'rules' | 'all'): Promise<void> {
    try {
      await compare(uid, what);
    } catch (error) {
      log.warn('a pod could not be compared with its state', {
        ...namesOf(deps.pod(uid)),
        uid,
        error: reasonOf(error),
      });
    }
  }

  async function round(): Promise<void> {
    for (const { uid } of [...table.entries()]) await compareOrTell(uid, 'all');
    onRound();
  }

  function startRounds(everyMs: number): void {
    scope.timeout(everyMs, () => {
      void round()
        .catch((error: unknown) => log.warn('a round of comparing pods failed', { error: reasonOf(error) }))
        .then(() => {
          if (!scope.closed) startRounds(everyMs);
        });
    });
  }

  return {
    podSoon: (uid) => void compareOrTell(uid, 'all'),
    rulesSoon(uid) {
      // What the agent itself writes is told as well, many lines at once; an enrolment in progress is looked at when it is done.
      if (touched.has(uid)) return;
      touched.add(uid);
      void compareOrTell(uid, 'rules');
    },
    startRounds,
  };
}
