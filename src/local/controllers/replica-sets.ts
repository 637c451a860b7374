// ReplicaSets: as many active pods as asked for, and the counts in their status.

import { reasonOf } from '#base/errors.ts';
import { objectKey } from '#k8s/informer.ts';
import { PODS, type Pod, REPLICA_SETS, type ReplicaSet } from '#k8s/objects.ts';
import { createEvents } from '#local/kubelet/events.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { claimDependents, followDependents } from './ownership.ts';
import { availableInMs, createPodFor, deletePod, isPodActive, isPodReady } from './pods.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { REPLICA_FAILURE, withCondition, writeStatus } from './status.ts';

/** Pods made or deleted in one round; the rest follows in the next. */
const BURST = 50;

export function createReplicaSetController(context: ControllerContext): WorkQueue {
  const { client, informers, log, clock } = context;
  const sets = informers.of(REPLICA_SETS);
  const pods = informers.of(PODS);
  const events = createEvents({ client, log, clock }, { component: 'replicaset-controller' }, REPLICA_SETS);
  const podsSettled = settleOn(pods);
  const setsSettled = settleOn(sets);

  const createPods = async (set: ReplicaSet, count: number): Promise<void> => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: Math.min(count, BURST) }, () => createPodFor(context, REPLICA_SETS, set)),
    );
    for (const outcome of outcomes)
      if (outcome.status === 'fulfilled') await podsSettled.created(outcome.value);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed === undefined) return;
    events.record(set, 'Warning', 'FailedCreate', `Error creating: ${reasonOf(failed.reason)}`);
    throw failed.reason;
  };

  const deletePods = async (surplus: readonly Pod[]): Promise<void> => {
    await Promise.all(surplus.slice(0, BURST).map((pod) => deletePod(client, pod)));
    for (const pod of surplus.slice(0, BURST)) await podsSettled.deleted(pod);
  };

  const reconcile = async (key: string): Promise<void> => {
    const set = sets.get(key);
    if (set === undefined || set.metadata.deletionTimestamp !== undefined) return;
    const claimed = await claimDependents(client, PODS, pods, REPLICA_SETS, set);
    const active = claimed.filter(isPodActive);
    const wanted = set.spec.replicas ?? 1;
    // The status comes first: what stands now is true whether or not the change succeeds.
    await writeCounts(set, active);
    const surplus = active.length - wanted;
    try {
      if (surplus < 0) await createPods(set, -surplus);
      else await deletePods([...active].sort(byDispensability).slice(0, surplus));
    } catch (error) {
      await writeFailure(set, {
        reason: surplus < 0 ? 'FailedCreate' : 'FailedDelete',
        message: reasonOf(error),
      });
      throw error;
    }
    await writeFailure(set, undefined);
  };

  /** The first failure stands until a round succeeds; the set's Deployment shows it, too. */
  const writeFailure = async (
    { metadata }: ReplicaSet,
    failure: { readonly reason: string; readonly message: string } | undefined,
  ): Promise<void> => {
    const set = sets.get(`${metadata.namespace}/${metadata.name}`);
    if (set === undefined) return;
    const conditions = set.status?.conditions ?? [];
    const held = conditions.some(({ type }) => type === REPLICA_FAILURE);
    if (held === (failure !== undefined)) return;
    const written = await writeStatus(client, REPLICA_SETS, set, {
      conditions:
        failure === undefined
          ? conditions.filter(({ type }) => type !== REPLICA_FAILURE)
          : withCondition(conditions, { type: REPLICA_FAILURE, status: 'True', ...failure }, clock.now()),
    });
    if (written !== undefined) await setsSettled.updated(written);
  };

  const writeCounts = async (set: ReplicaSet, active: readonly Pod[]): Promise<void> => {
    const { minReadySeconds = 0 } = set.spec as { minReadySeconds?: number };
    const waits = active.map((pod) => availableInMs(pod, minReadySeconds, clock.now()));
    const pending = waits.filter((waitMs) => waitMs !== undefined && waitMs > 0) as number[];
    if (pending.length > 0) queue.addAfter(objectKey(set), Math.min(...pending));
    const labels = Object.entries(set.spec.template.metadata?.labels ?? {});
    const written = await writeStatus(client, REPLICA_SETS, set, {
      replicas: active.length,
      fullyLabeledReplicas: active.filter((pod) =>
        labels.every(([name, value]) => pod.metadata.labels?.[name] === value),
      ).length,
      readyReplicas: active.filter(isPodReady).length,
      availableReplicas: waits.filter((waitMs) => waitMs === 0).length,
      observedGeneration: set.metadata.generation ?? 0,
    });
    if (written !== undefined) await setsSettled.updated(written);
  };

  const queue = createWorkQueue({ log }, { name: 'replicasets' }, reconcile);
  sets.addHandlers({ upsert: (set) => queue.add(objectKey(set)), remove: () => {} });
  followDependents(pods, { resource: REPLICA_SETS, informer: sets }, queue);
  return queue;
}

/** Which pod to do without first: not placed, not running, not ready, then the youngest. */
export function byDispensability(a: Pod, b: Pod): number {
  const placed = (pod: Pod): number => (pod.spec.nodeName === undefined ? 0 : 1);
  const running = (pod: Pod): number => (pod.status?.phase === 'Running' ? 1 : 0);
  const ready = (pod: Pod): number => (isPodReady(pod) ? 1 : 0);
  const bornMs = (pod: Pod): number => Date.parse(pod.metadata.creationTimestamp ?? '') || 0;
  return placed(a) - placed(b) || running(a) - running(b) || ready(a) - ready(b) || bornMs(b) - bornMs(a);
}
