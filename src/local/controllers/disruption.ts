// PodDisruptionBudgets: counts, for each, how many of its pods may be evicted now (the API server's eviction minds it).

import { objectKey } from '#k8s/informer.ts';
import {
  type Condition,
  DEPLOYMENTS,
  POD_DISRUPTION_BUDGETS,
  PODS,
  type Pod,
  type PodDisruptionBudget,
  REPLICA_SETS,
  STATEFUL_SETS,
} from '#k8s/objects.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { budgetStatus } from './disruption-plan.ts';
import { controllerOf } from './ownership.ts';
import { isPodFinished } from './pods.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { withCondition, writeStatus } from './status.ts';

export function createDisruptionController(context: ControllerContext): WorkQueue {
  const { client, informers, log, clock } = context;
  const budgets = informers.of(POD_DISRUPTION_BUDGETS);
  const pods = informers.of(PODS);
  const replicaSets = informers.of(REPLICA_SETS);
  const deployments = informers.of(DEPLOYMENTS);
  const statefulSets = informers.of(STATEFUL_SETS);
  const settled = settleOn(budgets);

  const selects = (budget: PodDisruptionBudget, pod: Pod): boolean =>
    pod.metadata.namespace === budget.metadata.namespace &&
    matchesSelector(budget.spec.selector, pod.metadata.labels);

  /** Name of the workload that decides on the number of such pods → that number. */
  const scaleOf = (pod: Pod): readonly [string, number] | undefined => {
    const owner = controllerOf(pod);
    const { namespace } = pod.metadata;
    if (owner?.kind === 'StatefulSet') {
      const set = statefulSets.get(`${namespace}/${owner.name}`);
      return set === undefined ? undefined : [`StatefulSet/${owner.name}`, set.spec.replicas ?? 1];
    }
    if (owner?.kind !== 'ReplicaSet') return undefined;
    const set = replicaSets.get(`${namespace}/${owner.name}`);
    if (set === undefined) return undefined;
    const parent = controllerOf(set);
    const deployment =
      parent?.kind === 'Deployment' ? deployments.get(`${namespace}/${parent.name}`) : undefined;
    return deployment === undefined
      ? [`ReplicaSet/${owner.name}`, set.spec.replicas ?? 1]
      : [`Deployment/${deployment.metadata.name}`, deployment.spec.replicas ?? 1];
  };

  const reconcile = async (key: string): Promise<void> => {
    const budget = budgets.get(key);
    if (budget === undefined || budget.metadata.deletionTimestamp !== undefined) return;
    const covered = [...pods.all()].filter((pod) => !isPodFinished(pod) && selects(budget, pod));
    const scales = covered.map(scaleOf);
    const known = new Map(scales.filter((scale) => scale !== undefined));
    const wanted = scales.some((scale) => scale === undefined)
      ? undefined
      : [...known.values()].reduce((sum, count) => sum + count, 0);
    const { recheckInMs, problem, ...counts } = budgetStatus({
      budget,
      pods: covered,
      wanted,
      nowMs: clock.now(),
    });
    const condition: Omit<Condition, 'lastTransitionTime'> = {
      type: 'DisruptionAllowed',
      status: counts.disruptionsAllowed > 0 ? 'True' : 'False',
      reason:
        problem !== undefined
          ? 'SyncFailed'
          : counts.disruptionsAllowed > 0
            ? 'SufficientPods'
            : 'InsufficientPods',
      message: problem ?? '',
    };
    const written = await writeStatus(client, POD_DISRUPTION_BUDGETS, budget, {
      ...counts,
      observedGeneration: budget.metadata.generation ?? 0,
      conditions: withCondition(budget.status?.conditions ?? [], condition, clock.now()),
    });
    if (written !== undefined) await settled.updated(written);
    if (recheckInMs !== undefined) queue.addAfter(key, recheckInMs + 50);
  };

  const queue = createWorkQueue({ log }, { name: 'disruption budgets' }, reconcile);
  budgets.addHandlers({ upsert: (budget) => queue.add(objectKey(budget)), remove: () => {} });
  const look = (pod: Pod): void => {
    for (const budget of budgets.all()) if (selects(budget, pod)) queue.add(objectKey(budget));
  };
  pods.addHandlers({
    upsert(pod, old) {
      if (old !== undefined) look(old);
      look(pod);
    },
    remove: look,
  });
  const lookIn = ({ metadata }: { readonly metadata: { readonly namespace?: string } }): void => {
    for (const budget of budgets.all())
      if (budget.metadata.namespace === metadata.namespace) queue.add(objectKey(budget));
  };
  for (const informer of [replicaSets, deployments, statefulSets])
    informer.addHandlers({
      upsert: (owner, old) => {
        if (owner.spec.replicas !== old?.spec.replicas) lookIn(owner);
      },
      remove: lookIn,
    });
  return queue;
}
