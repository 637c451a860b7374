// The pure part of a StatefulSet: which pods to make and to delete now, given those there are. Pods have numbers; in the
// usual order each waits for the one before it, and what goes, goes from the highest number down.

import type { Pod } from '#k8s/objects.ts';
import { availableInMs, isPodFinished, isPodReady, isPodTerminating } from './pods.ts';

export interface StatefulInput {
  readonly replicas: number;
  /** The number of the first pod. */
  readonly start: number;
  readonly ordered: boolean;
  readonly strategy:
    | { readonly kind: 'on-delete' }
    /** Pods below the partition keep the current revision; the others are replaced, so many at once. */
    | { readonly kind: 'rolling'; readonly partition: number; readonly maxUnavailable: number };
  /** Every pod the set controls, by number. */
  readonly pods: ReadonlyMap<number, Pod>;
  readonly revisionOf: (pod: Pod) => string;
  readonly currentRevision: string;
  readonly updateRevision: string;
  readonly minReadySeconds: number;
  readonly nowMs: number;
}

export interface StatefulPlan {
  readonly create: readonly { readonly ordinal: number; readonly revision: string }[];
  readonly remove: readonly Pod[];
  readonly status: {
    readonly replicas: number;
    readonly readyReplicas: number;
    readonly availableReplicas: number;
    readonly currentReplicas: number;
    readonly updatedReplicas: number;
    readonly currentRevision: string;
    readonly updateRevision: string;
  };
  readonly recheckInMs: number | undefined;
}

export function planStateful(input: StatefulInput): StatefulPlan {
  const waitsMs: number[] = [];
  const isAvailable = (pod: Pod): boolean => {
    const waitMs = availableInMs(pod, input.minReadySeconds, input.nowMs);
    if (waitMs !== undefined && waitMs > 0) waitsMs.push(waitMs);
    return waitMs === 0;
  };
  const { create, remove } = planChanges(input, isAvailable);
  const living = [...input.pods.values()].filter((pod) => !isPodTerminating(pod) && !isPodFinished(pod));
  const ofRevision = (revision: string): number =>
    living.filter((pod) => input.revisionOf(pod) === revision).length;
  const counts = {
    replicas: input.pods.size,
    readyReplicas: living.filter(isPodReady).length,
    availableReplicas: living.filter(isAvailable).length,
    updatedReplicas: ofRevision(input.updateRevision),
  };
  // A rollout is over when every pod runs the new revision and serves; then it is the current one.
  const complete =
    input.strategy.kind === 'rolling' &&
    counts.updatedReplicas === input.replicas &&
    counts.readyReplicas === input.replicas &&
    counts.replicas === input.replicas;
  const currentRevision = complete ? input.updateRevision : input.currentRevision;
  return {
    create,
    remove,
    status: {
      ...counts,
      currentReplicas: ofRevision(currentRevision),
      currentRevision,
      updateRevision: input.updateRevision,
    },
    recheckInMs: waitsMs.length === 0 ? undefined : Math.min(...waitsMs),
  };
}

function planChanges(
  input: StatefulInput,
  isAvailable: (pod: Pod) => boolean,
): Pick<StatefulPlan, 'create' | 'remove'> {
  const { replicas, start, ordered, strategy, pods } = input;
  const create: { ordinal: number; revision: string }[] = [];
  const remove: Pod[] = [];
  const revisionFor = (ordinal: number): string =>
    strategy.kind === 'rolling' && ordinal < start + strategy.partition
      ? input.currentRevision
      : input.updateRevision;

  for (let ordinal = start; ordinal < start + replicas; ordinal++) {
    const pod = pods.get(ordinal);
    if (pod === undefined) create.push({ ordinal, revision: revisionFor(ordinal) });
    else if (isPodFinished(pod) && !isPodTerminating(pod))
      remove.push(pod); // made anew under its name
    else if (!isPodTerminating(pod) && isAvailable(pod)) continue;
    // Later ones wait for this one.
    if (ordered) return { create, remove };
  }
  const surplus = [...pods]
    .filter(([ordinal]) => ordinal < start || ordinal >= start + replicas)
    .sort(([a], [b]) => b - a)
    .map(([, pod]) => pod);
  for (const pod of surplus) {
    if (!isPodTerminating(pod)) remove.push(pod);
    if (ordered) return { create, remove };
  }
  if (create.length + remove.length > 0 || strategy.kind === 'on-delete') return { create, remove };

  const wanted = [...pods].filter(([ordinal]) => ordinal >= start && ordinal < start + replicas);
  // What is missing already is taken from what may be missing, whichever pods those are.
  let budget = strategy.maxUnavailable - wanted.filter(([, pod]) => !isAvailable(pod)).length;
  const outdated = wanted
    .filter(([ordinal]) => ordinal >= start + strategy.partition)
    .filter(([, pod]) => !isPodTerminating(pod) && input.revisionOf(pod) !== input.updateRevision)
    .sort(([a], [b]) => b - a);
  for (const [, pod] of outdated) {
    // One that serves nobody is missing already.
    if (isAvailable(pod) && budget-- <= 0) break;
    remove.push(pod);
  }
  return { create, remove };
}
