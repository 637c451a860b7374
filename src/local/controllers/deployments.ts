// Deployments: one ReplicaSet per pod template, rolled over step by step (rollout.ts decides), with revisions and status.

import { objectKey } from '#k8s/informer.ts';
import { DEPLOYMENTS, type Deployment, PODS, REPLICA_SETS, type ReplicaSet } from '#k8s/objects.ts';
import { isAlreadyExists, isConflict, isNotFound } from '#k8s/status.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { deploymentStatus } from './deployment-status.ts';
import { claimDependents, controllerOf, controllerReference, followDependents } from './ownership.ts';
import { isPodFinished } from './pods.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { planRecreate, planRollingUpdate, resolveRollingUpdate } from './rollout.ts';
import { DESIRED_REPLICAS, isScaling, MAX_REPLICAS, planScaling, type ScaledSet } from './rollout-scaling.ts';
import { writeStatus } from './status.ts';
import { POD_TEMPLATE_HASH, templateHash } from './template-hash.ts';

const REVISION = 'deployment.kubernetes.io/revision';
const REVISION_HISTORY_LIMIT = 10;
/** Annotations that belong to the Deployment alone. */
const NOT_COPIED: readonly string[] = [
  REVISION,
  DESIRED_REPLICAS,
  MAX_REPLICAS,
  'kubectl.kubernetes.io/last-applied-configuration',
];

export type DeploymentSpec = Deployment['spec'] & {
  readonly paused?: boolean;
  readonly minReadySeconds?: number;
  readonly revisionHistoryLimit?: number;
  readonly progressDeadlineSeconds?: number;
};

export function createDeploymentController(context: ControllerContext): WorkQueue {
  const { client, informers, log, clock } = context;
  const deployments = informers.of(DEPLOYMENTS);
  const sets = informers.of(REPLICA_SETS);
  const pods = informers.of(PODS);
  const setsSettled = settleOn(sets);
  const deploymentsSettled = settleOn(deployments);

  const createSet = async (
    deployment: Deployment,
    hash: string,
    revision: number,
    replicas: number,
  ): Promise<ReplicaSet> => {
    const { namespace = '', name } = deployment.metadata;
    const { template, selector, minReadySeconds } = deployment.spec as DeploymentSpec;
    const label = { [POD_TEMPLATE_HASH]: hash };
    const labels = { ...template.metadata?.labels, ...label };
    const set: ReplicaSet = {
      apiVersion: 'apps/v1',
      kind: REPLICA_SETS.kind,
      metadata: {
        name: `${name}-${hash}`,
        namespace,
        labels,
        annotations: {
          ...copiedAnnotations(deployment),
          ...scaleNotes(deployment),
          [REVISION]: String(revision),
        },
        ownerReferences: [controllerReference(DEPLOYMENTS, deployment)],
      },
      spec: {
        replicas,
        ...(minReadySeconds === undefined ? {} : { minReadySeconds }),
        selector: { ...selector, matchLabels: { ...selector.matchLabels, ...label } },
        template: { ...template, metadata: { ...template.metadata, labels } },
      },
    };
    let made: ReplicaSet;
    try {
      made = await client.create(REPLICA_SETS, set, namespace);
    } catch (error) {
      // Our own, made a moment ago and not in the copy yet; anybody else's is an error.
      if (!isAlreadyExists(error)) throw error;
      made = await client.get(REPLICA_SETS, set.metadata.name, namespace);
      if (controllerOf(made)?.uid !== deployment.metadata.uid) throw error;
    }
    await setsSettled.created(made);
    return made;
  };

  /** The set also notes to which number of the Deployment it was scaled: a later one is seen by that. */
  const scale = async (deployment: Deployment, set: ReplicaSet, replicas: number): Promise<void> => {
    const { name, namespace = '', uid, annotations = {} } = set.metadata;
    const present = set.spec.replicas ?? 1;
    const notes = present === 0 && replicas === 0 ? {} : scaleNotes(deployment);
    const isNoted = Object.entries(notes).every(([key, value]) => annotations[key] === value);
    if (present === replicas && isNoted) return;
    const body = { metadata: { uid, annotations: notes }, spec: { replicas } };
    await setsSettled.updated(await client.patch(REPLICA_SETS, name, 'merge', body, { namespace }));
  };

  /** The highest revision is the current template's, also when an older template comes back (rollout undo). */
  const number = async (
    deployment: Deployment,
    current: ReplicaSet,
    old: readonly ReplicaSet[],
  ): Promise<void> => {
    const newestOld = Math.max(0, ...old.map(revisionOf));
    const revision = revisionOf(current) > newestOld ? revisionOf(current) : newestOld + 1;
    const mark = { [REVISION]: String(revision) };
    // The set carries the Deployment's notes of the time it was the current one: `kubernetes.io/change-cause` among them.
    for (const [resource, object, wanted] of [
      [REPLICA_SETS, current, { ...copiedAnnotations(deployment), ...mark }],
      [DEPLOYMENTS, deployment, mark],
    ] as const) {
      const { name, namespace = '', annotations = {} } = object.metadata;
      const changed = Object.entries(wanted).filter(([key, value]) => annotations[key] !== value);
      if (changed.length === 0) continue;
      const body = { metadata: { annotations: Object.fromEntries(changed) } };
      await client.patch(resource, name, 'merge', body, { namespace });
    }
  };

  const forgetOldSets = async (deployment: Deployment, old: readonly ReplicaSet[]): Promise<void> => {
    const { revisionHistoryLimit = REVISION_HISTORY_LIMIT } = deployment.spec as DeploymentSpec;
    const idle = old.filter((set) => set.spec.replicas === 0 && (set.status?.replicas ?? 0) === 0);
    for (const { metadata } of idle.slice(0, Math.max(0, idle.length - revisionHistoryLimit))) {
      const { name, namespace = '', uid } = metadata;
      try {
        await client.delete(REPLICA_SETS, name, { namespace, ...(uid === undefined ? {} : { uid }) });
      } catch (error) {
        if (!isNotFound(error) && !isConflict(error)) throw error;
      }
    }
  };

  const oldPodsLeft = (old: readonly ReplicaSet[]): boolean => {
    const uids = new Set(old.map(({ metadata }) => metadata.uid));
    return [...pods.all()].some((pod) => uids.has(controllerOf(pod)?.uid ?? '') && !isPodFinished(pod));
  };

  /** Moves one step and returns the current template's ReplicaSet, if there is one. */
  const roll = async (
    deployment: Deployment,
    current: ReplicaSet | undefined,
    old: readonly ReplicaSet[],
    hash: string,
  ): Promise<ReplicaSet | undefined> => {
    const spec = deployment.spec as DeploymentSpec;
    const desired = spec.replicas ?? 1;
    const sets = current === undefined ? old : [...old, current];
    const scaled = sets.map((set) => scaledSet(set, set === current));
    // Scaling goes on while a rollout is paused; and it comes first, the rollout then goes on with the new number.
    if (spec.paused === true || isScaling(desired, scaled)) {
      const sizes = planScaling({
        desired,
        maxSurge: surgeOf(deployment),
        rolling: spec.strategy?.type !== 'Recreate',
        present: Number(deployment.status?.replicas ?? 0),
        sets: scaled,
      });
      for (const [index, set] of sets.entries()) await scale(deployment, set, sizes[index] ?? 0);
      return current;
    }
    const counts = (set: ReplicaSet | undefined) => ({
      replicas: set === undefined ? 0 : (set.spec.replicas ?? 1),
      available: set?.status?.availableReplicas ?? 0,
    });
    let plan: { readonly current: number; readonly old: readonly number[] };
    if (spec.strategy?.type === 'Recreate') {
      const left = oldPodsLeft(old) || old.some((set) => set.spec.replicas !== 0);
      const recreate = planRecreate({ desired, current: counts(current).replicas, oldPodsLeft: left });
      plan = { current: recreate.current, old: old.map(() => recreate.old) };
    } else
      plan = planRollingUpdate({
        desired,
        ...resolveRollingUpdate(spec.strategy?.rollingUpdate, desired),
        current: counts(current),
        old: old.map(counts),
      });
    const set =
      current ?? (await createSet(deployment, hash, Math.max(0, ...old.map(revisionOf)) + 1, plan.current));
    await number(deployment, set, old);
    await scale(deployment, set, plan.current);
    for (const [index, oldSet] of old.entries()) await scale(deployment, oldSet, plan.old[index] ?? 0);
    return set;
  };

  const reconcile = async (key: string): Promise<void> => {
    const deployment = deployments.get(key);
    if (deployment === undefined || deployment.metadata.deletionTimestamp !== undefined) return;
    const hash = templateHash(deployment.spec.template);
    const owned = (await claimDependents(client, REPLICA_SETS, sets, DEPLOYMENTS, deployment)).sort(
      (a, b) => revisionOf(a) - revisionOf(b),
    );
    const isCurrent = (set: ReplicaSet): boolean => set.metadata.labels?.[POD_TEMPLATE_HASH] === hash;
    const old = owned.filter((set) => !isCurrent(set));
    const current = await roll(deployment, owned.find(isCurrent), old, hash);
    // Judged by what the copy shows after the step, not by what the step was based on.
    const latest = (set: ReplicaSet): ReplicaSet => sets.get(objectKey(set)) ?? set;
    const { fields, recheckInMs } = deploymentStatus(
      deployment,
      current === undefined ? undefined : latest(current),
      old.map(latest),
      clock.now(),
    );
    const written = await writeStatus(client, DEPLOYMENTS, deployment, fields);
    if (written !== undefined) await deploymentsSettled.updated(written);
    if (recheckInMs !== undefined) queue.addAfter(key, recheckInMs);
    await forgetOldSets(deployment, old);
  };

  const queue = createWorkQueue({ log }, { name: 'deployments' }, reconcile);
  deployments.addHandlers({ upsert: (deployment) => queue.add(objectKey(deployment)), remove: () => {} });
  followDependents(sets, { resource: DEPLOYMENTS, informer: deployments }, queue);
  // Recreate waits for the last old pod to be gone.
  pods.addHandlers({
    upsert: () => {},
    remove(pod) {
      const set = sets.get(`${pod.metadata.namespace}/${controllerOf(pod)?.name}`);
      const owner = set === undefined ? undefined : controllerOf(set);
      if (owner !== undefined) queue.add(`${pod.metadata.namespace}/${owner.name}`);
    },
  });
  return queue;
}

function surgeOf({ spec }: Deployment): number {
  const { replicas = 1, strategy } = spec;
  return strategy?.type === 'Recreate' ? 0 : resolveRollingUpdate(strategy?.rollingUpdate, replicas).maxSurge;
}

function scaleNotes(deployment: Deployment): Record<string, string> {
  const { replicas = 1 } = deployment.spec;
  return {
    [DESIRED_REPLICAS]: String(replicas),
    [MAX_REPLICAS]: String(replicas + surgeOf(deployment)),
  };
}

function scaledSet({ metadata, spec, status }: ReplicaSet, isCurrent: boolean): ScaledSet {
  const noted = (name: string): number | undefined => {
    const text = metadata.annotations?.[name] ?? '';
    return /^\d+$/.test(text) ? Number(text) : undefined;
  };
  return {
    replicas: spec.replicas ?? 1,
    available: status?.availableReplicas ?? 0,
    isCurrent,
    bornMs: Date.parse(metadata.creationTimestamp ?? '') || 0,
    desiredBefore: noted(DESIRED_REPLICAS),
    maxBefore: noted(MAX_REPLICAS),
  };
}

const revisionOf = (set: ReplicaSet): number => Number(set.metadata.annotations?.[REVISION] ?? 0) || 0;

function copiedAnnotations(deployment: Deployment): Record<string, string> {
  return Object.fromEntries(
    Object.entries(deployment.metadata.annotations ?? {}).filter(([name]) => !NOT_COPIED.includes(name)),
  );
}
