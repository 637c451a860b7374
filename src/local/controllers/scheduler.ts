// The scheduler: a node for every pod that has none. Honours nodeSelector, cordon, taints and readiness; spreads the pods
// of one owner first, then all pods. Resources, affinity and topology constraints are not weighed.

import { objectKey } from '#k8s/informer.ts';
import { NODES, type Node, PODS, type Pod } from '#k8s/objects.ts';
import { matchesLabels } from '#k8s/selectors.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { nodeFacts } from './daemon-sets.ts';
import { controllerOf } from './ownership.ts';
import { isNodeReady, isPodActive, isPodFinished, toleratesTaints } from './pods.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { withCondition, writeStatus } from './status.ts';

const OUR_NAME = 'default-scheduler';

export type Placement =
  | { readonly kind: 'node'; readonly node: string }
  | { readonly kind: 'none'; readonly reason: string };

/** Where the pod should run, given all nodes and all pods. Pure. */
export function placePod(pod: Pod, nodes: readonly Node[], pods: readonly Pod[]): Placement {
  const refusals = new Map<string, number>();
  const fitting = nodes.filter((node) => {
    const refusal = refusalOf(pod, node);
    if (refusal !== undefined) refusals.set(refusal, (refusals.get(refusal) ?? 0) + 1);
    return refusal === undefined;
  });
  if (fitting.length === 0) {
    const reasons = [...refusals].map(([reason, count]) => `${count} ${reason}`);
    const detail = nodes.length === 0 ? 'there is no node' : reasons.join(', ');
    return { kind: 'none', reason: `0/${nodes.length} nodes are available: ${detail}.` };
  }
  const owner = controllerOf(pod)?.uid;
  const load = new Map(fitting.map(({ metadata }) => [metadata.name, { siblings: 0, all: 0 }]));
  for (const other of pods) {
    const counts = load.get(other.spec.nodeName ?? '');
    if (counts === undefined || isPodFinished(other)) continue;
    counts.all++;
    // One that is leaving makes room for its successor.
    if (owner !== undefined && controllerOf(other)?.uid === owner && isPodActive(other)) counts.siblings++;
  }
  const [best] = [...load].sort(
    ([nameA, a], [nameB, b]) => a.siblings - b.siblings || a.all - b.all || (nameA < nameB ? -1 : 1),
  );
  return { kind: 'node', node: (best as [string, unknown])[0] };
}

function refusalOf(pod: Pod, node: Node): string | undefined {
  if (node.metadata.deletionTimestamp !== undefined || !isNodeReady(node)) return 'node(s) were not ready';
  if (node.spec?.unschedulable === true) return 'node(s) were unschedulable';
  if (!matchesLabels(pod.spec.nodeSelector ?? {}, node.metadata.labels))
    return "node(s) didn't match Pod's node selector";
  if (!toleratesTaints(node, pod.spec.tolerations)) return 'node(s) had untolerated taints';
  return undefined;
}

const isWaiting = (pod: Pod): boolean =>
  (pod.spec.nodeName ?? '') === '' &&
  isPodActive(pod) &&
  ((pod.spec as { schedulerName?: string }).schedulerName ?? OUR_NAME) === OUR_NAME;

export function createScheduler(context: ControllerContext): WorkQueue {
  const { client, informers, log, clock } = context;
  const pods = informers.of(PODS);
  const nodes = informers.of(NODES);
  const podsSettled = settleOn(pods);

  const reconcile = async (key: string): Promise<void> => {
    const pod = pods.get(key);
    if (pod === undefined || !isWaiting(pod)) return;
    const { name, namespace = '', uid } = pod.metadata;
    const placement = placePod(pod, [...nodes.all()], [...pods.all()]);
    if (placement.kind === 'node') {
      const body = { metadata: { uid }, spec: { nodeName: placement.node } };
      await podsSettled.updated(await client.patch(PODS, name, 'merge', body, { namespace }));
      return;
    }
    const condition = {
      type: 'PodScheduled',
      status: 'False' as const,
      reason: 'Unschedulable',
      message: placement.reason,
    };
    const written = await writeStatus(client, PODS, pod, {
      conditions: withCondition(pod.status?.conditions ?? [], condition, clock.now()),
    });
    if (written !== undefined) await podsSettled.updated(written);
  };

  // One at a time: every placement counts the ones before it.
  const queue = createWorkQueue({ log }, { name: 'scheduler', concurrency: 1 }, reconcile);
  const enqueue = (pod: Pod): void => {
    if (isWaiting(pod)) queue.add(objectKey(pod));
  };
  pods.addHandlers({ upsert: enqueue, remove: () => {} });
  nodes.addHandlers({
    upsert(node, old) {
      if (old !== undefined && nodeFacts(node) === nodeFacts(old)) return;
      for (const pod of pods.all()) enqueue(pod);
    },
    remove: () => {},
  });
  return queue;
}
