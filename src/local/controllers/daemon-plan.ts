// The pure part of a DaemonSet: which pods to make and to delete, given its nodes and the pods there are.

import type { Pod } from '#k8s/objects.ts';
import { availableInMs, isPodFinished, isPodReady, isPodTerminating } from './pods.ts';

export interface DaemonInput {
  /** The nodes that should run the daemon. */
  readonly nodes: readonly { readonly name: string; readonly ready: boolean }[];
  /** Every pod the DaemonSet controls, terminating ones too. */
  readonly pods: readonly Pod[];
  readonly isUpdated: (pod: Pod) => boolean;
  readonly replaceOutdated: boolean;
  readonly maxUnavailable: number;
  /** So many nodes may run the new pod beside the old one until it is available; then nothing is ever missing. */
  readonly maxSurge: number;
  readonly minReadySeconds: number;
  readonly nowMs: number;
}

export interface DaemonPlan {
  /** Names of nodes. */
  readonly create: readonly string[];
  readonly remove: readonly Pod[];
  readonly status: Readonly<Record<string, number>>;
  /** When a pod becomes available by the mere passing of time. */
  readonly recheckInMs: number | undefined;
}

export function planDaemons(input: DaemonInput): DaemonPlan {
  const byNode = new Map<string, Pod[]>();
  for (const pod of input.pods) {
    const { nodeName = '' } = pod.spec;
    byNode.set(nodeName, [...(byNode.get(nodeName) ?? []), pod]);
  }
  const create: string[] = [];
  const remove: Pod[] = [];
  const outdated: Pod[] = [];
  const waitsMs: number[] = [];
  let scheduled = 0;
  let ready = 0;
  let available = 0;
  let updated = 0;

  let surging = 0;
  const surgeable: string[] = [];
  const isAvailable = (pod: Pod): boolean => availableInMs(pod, input.minReadySeconds, input.nowMs) === 0;

  for (const node of input.nodes) {
    const here = byNode.get(node.name) ?? [];
    byNode.delete(node.name);
    const living = here.filter((pod) => !isPodTerminating(pod) && !isPodFinished(pod)).sort(byMerit);
    remove.push(...here.filter((pod) => isPodFinished(pod) && !isPodTerminating(pod)));
    const successor = input.maxSurge > 0 ? living.find(input.isUpdated) : undefined;
    const former = living.find((pod) => !input.isUpdated(pod));
    if (successor !== undefined && former !== undefined && !isAvailable(successor)) {
      // Both for a while. The old one goes when the new one can take over, or was no use anyway.
      surging++;
      remove.push(...living.filter((pod) => pod !== successor && (pod !== former || !isAvailable(former))));
      scheduled++;
      updated++;
      if (isPodReady(former)) ready++;
      if (isAvailable(former)) available++;
      const waitMs = availableInMs(successor, input.minReadySeconds, input.nowMs);
      if (waitMs !== undefined) waitsMs.push(waitMs);
      continue;
    }
    const keeper = successor ?? living[0];
    remove.push(...living.filter((pod) => pod !== keeper));
    if (keeper === undefined) {
      // A predecessor must be gone first: both may hold the same port of the node.
      if (here.length === 0 && node.ready) create.push(node.name);
      continue;
    }
    scheduled++;
    if (isPodReady(keeper)) ready++;
    const waitMs = availableInMs(keeper, input.minReadySeconds, input.nowMs);
    if (waitMs === 0) available++;
    else if (waitMs !== undefined) waitsMs.push(waitMs);
    if (input.isUpdated(keeper)) updated++;
    else {
      outdated.push(keeper);
      if (node.ready && here.every((pod) => pod === keeper)) surgeable.push(node.name);
    }
  }
  // What is left runs where it should not.
  const strays = [...byNode.values()].flat().filter((pod) => !isPodTerminating(pod));
  remove.push(...strays);

  if (input.replaceOutdated) {
    if (input.maxSurge > 0) {
      create.push(...surgeable.slice(0, Math.max(0, input.maxSurge - surging)));
      // One that serves nobody is not worth keeping beside its successor.
      remove.push(...outdated.filter((pod) => !isAvailable(pod)));
    }
    let budget = input.maxSurge > 0 ? 0 : input.maxUnavailable - (input.nodes.length - available);
    for (const pod of input.maxSurge > 0 ? [] : outdated) {
      // One that serves nobody is already part of what is unavailable.
      if (availableInMs(pod, input.minReadySeconds, input.nowMs) !== 0) remove.push(pod);
      else if (budget > 0) {
        budget--;
        remove.push(pod);
      }
    }
  }
  return {
    create,
    remove,
    status: {
      desiredNumberScheduled: input.nodes.length,
      currentNumberScheduled: scheduled,
      updatedNumberScheduled: updated,
      numberMisscheduled: strays.filter((pod) => !isPodFinished(pod)).length,
      numberReady: ready,
      numberAvailable: available,
      numberUnavailable: input.nodes.length - available,
    },
    recheckInMs: waitsMs.length === 0 ? undefined : Math.min(...waitsMs),
  };
}

/** Ready before not ready, then the elder. */
function byMerit(a: Pod, b: Pod): number {
  const ready = (pod: Pod): number => (isPodReady(pod) ? 0 : 1);
  return (
    ready(a) - ready(b) ||
    (a.metadata.creationTimestamp ?? '').localeCompare(b.metadata.creationTimestamp ?? '') ||
    a.metadata.name.localeCompare(b.metadata.name)
  );
}
