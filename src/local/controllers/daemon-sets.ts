// DaemonSets: one pod on every node that fits, replaced node by node when the template changes.
// Pods are bound here, not by the scheduler: a node that is full or cordoned gets its pod too.

import { reasonOf } from '#base/errors.ts';
import { objectKey } from '#k8s/informer.ts';
import {
  CONTROLLER_REVISIONS,
  DAEMON_SETS,
  type DaemonSet,
  NODES,
  type Node,
  PODS,
  type Pod,
} from '#k8s/objects.ts';
import { createEvents } from '#local/kubelet/events.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { type DaemonPlan, planDaemons } from './daemon-plan.ts';
import { matchesNodeSelection } from './node-affinity.ts';
import { claimDependents, followDependents } from './ownership.ts';
import { createPodFor, deletePod, isNodeReady, isPodFinished } from './pods.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { type History, hashOf, REVISION_HASH, syncHistory, trimHistory } from './revisions.ts';
import { type RollingUpdate, resolveCount } from './rollout.ts';
import { writeStatus } from './status.ts';
import { DAEMON_TOLERATIONS, type Taint, type Toleration, untoleratedTaint } from './tolerations.ts';

const REVISION_HISTORY_LIMIT = 10;
/** A pod that failed for good (its node refused it) is replaced no faster than this. */
const FAILED_POD_DELAY_MS = 5_000;

type DaemonSetSpec = DaemonSet['spec'] & {
  readonly minReadySeconds?: number;
  readonly revisionHistoryLimit?: number;
  readonly updateStrategy?: { readonly type?: string; readonly rollingUpdate?: RollingUpdate };
};

export function createDaemonSetController(context: ControllerContext): WorkQueue {
  const { client, informers, log, clock } = context;
  const sets = informers.of(DAEMON_SETS);
  const pods = informers.of(PODS);
  const nodes = informers.of(NODES);
  const events = createEvents({ client, log, clock }, { component: 'daemonset-controller' }, DAEMON_SETS);
  const podsSettled = settleOn(pods);
  const setsSettled = settleOn(sets);
  const revisions = informers.of(CONTROLLER_REVISIONS);
  const historyDeps = { context, revisions, settled: settleOn(revisions) };

  const reconcile = async (key: string): Promise<void> => {
    const set = sets.get(key);
    if (set === undefined || set.metadata.deletionTimestamp !== undefined) return;
    const history = await syncHistory(historyDeps, DAEMON_SETS, set);
    const hash = hashOf(history.update);
    const spec = set.spec as DaemonSetSpec;
    const claimed = await claimDependents(client, PODS, pods, DAEMON_SETS, set);
    const fitting = [...nodes.all()].filter((node) => fits(set, node));
    const plan = planDaemons({
      // A node that is not ready keeps its pod but is given no new one.
      nodes: fitting.map((node) => ({ name: node.metadata.name, ready: isNodeReady(node) })),
      pods: claimed,
      isUpdated: (pod) => pod.metadata.labels?.[REVISION_HASH] === hash,
      replaceOutdated: spec.updateStrategy?.type !== 'OnDelete',
      maxUnavailable: Math.max(
        1,
        resolveCount(spec.updateStrategy?.rollingUpdate?.maxUnavailable, fitting.length, 'up', 1),
      ),
      maxSurge: resolveCount(spec.updateStrategy?.rollingUpdate?.maxSurge, fitting.length, 'up', 0),
      minReadySeconds: spec.minReadySeconds ?? 0,
      nowMs: clock.now(),
    });
    const written = await writeStatus(client, DAEMON_SETS, set, {
      ...plan.status,
      observedGeneration: set.metadata.generation ?? 0,
    });
    if (written !== undefined) await setsSettled.updated(written);
    if (plan.recheckInMs !== undefined) queue.addAfter(key, plan.recheckInMs);
    await carryOut(set, hash, plan);
    await forget(spec, history, claimed);
  };

  const forget = async (spec: DaemonSetSpec, history: History, claimed: readonly Pod[]): Promise<void> => {
    const hashes = new Set(claimed.map(({ metadata }) => metadata.labels?.[REVISION_HASH]));
    const live = history.all.filter((revision) => hashes.has(hashOf(revision)));
    const names = new Set(live.map(({ metadata }) => metadata.name));
    await trimHistory(historyDeps, history, names, spec.revisionHistoryLimit ?? REVISION_HISTORY_LIMIT);
  };

  const carryOut = async (set: DaemonSet, hash: string, plan: DaemonPlan): Promise<void> => {
    for (const pod of plan.remove) {
      const ageMs = clock.now() - (Date.parse(pod.metadata.creationTimestamp ?? '') || 0);
      if (isPodFinished(pod) && ageMs < FAILED_POD_DELAY_MS) {
        queue.addAfter(objectKey(set), FAILED_POD_DELAY_MS - ageMs);
        continue;
      }
      await deletePod(client, pod);
      await podsSettled.deleted(pod);
    }
    for (const nodeName of plan.create) {
      const made = await createPodFor(context, DAEMON_SETS, set, {
        labels: { [REVISION_HASH]: hash },
        spec: { nodeName, tolerations: tolerationsOf(set) },
      }).catch((error: unknown) => {
        events.record(set, 'Warning', 'FailedCreate', `Error creating: ${reasonOf(error)}`);
        throw error;
      });
      await podsSettled.created(made);
    }
  };

  const queue = createWorkQueue({ log }, { name: 'daemonsets' }, reconcile);
  sets.addHandlers({ upsert: (set) => queue.add(objectKey(set)), remove: () => {} });
  followDependents(pods, { resource: DAEMON_SETS, informer: sets }, queue);
  const enqueueAll = (): void => {
    for (const set of sets.all()) queue.add(objectKey(set));
  };
  nodes.addHandlers({
    upsert(node, old) {
      // Heartbeats change nothing here.
      if (old === undefined || nodeFacts(node) !== nodeFacts(old)) enqueueAll();
    },
    remove: enqueueAll,
  });
  return queue;
}

function fits(set: DaemonSet, node: Node): boolean {
  const { spec } = set.spec.template;
  return (
    node.metadata.deletionTimestamp === undefined &&
    matchesNodeSelection(spec, node) &&
    untoleratedTaint((node.spec?.taints ?? []) as Taint[], tolerationsOf(set), [
      'NoSchedule',
      'NoExecute',
    ]) === undefined
  );
}

const tolerationsOf = (set: DaemonSet): Toleration[] => [
  ...((set.spec.template.spec.tolerations ?? []) as Toleration[]),
  ...DAEMON_TOLERATIONS,
];

/** What placement depends on. */
export const nodeFacts = (node: Node): string =>
  JSON.stringify([
    node.metadata.labels,
    node.metadata.deletionTimestamp,
    node.spec?.unschedulable,
    node.spec?.taints,
    node.status?.allocatable,
    isNodeReady(node),
  ]);
