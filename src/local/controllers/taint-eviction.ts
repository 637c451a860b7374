// Moves pods off nodes whose NoExecute taints they do not tolerate, or no longer.

import { objectKey } from '#k8s/informer.ts';
import { NODES, type Node, PODS, type Pod } from '#k8s/objects.ts';
import { createEvents } from '#local/kubelet/events.ts';
import type { ControllerContext } from './context.ts';
import { deletePod, isPodTerminating, markDisrupted } from './pods.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { evictionDueMs, type Taint, type Toleration } from './tolerations.ts';

const executing = (node: Node | undefined): Taint[] =>
  ((node?.spec?.taints ?? []) as Taint[]).filter(({ effect }) => effect === 'NoExecute');

const TAINTED = {
  reason: 'DeletionByTaintManager',
  message: 'Taint manager: deleting due to NoExecute taint',
};

export function createTaintEviction(context: ControllerContext): WorkQueue {
  const { client, informers, log, clock } = context;
  const pods = informers.of(PODS);
  const nodes = informers.of(NODES);
  const events = createEvents({ client, log, clock }, { component: 'taint-eviction-controller' }, PODS);
  /** Of taints that do not say since when: when they were first seen. */
  const seenMs = new Map<string, number>();

  const sinceMs =
    (node: Node) =>
    (taint: Taint): number => {
      const stated = Date.parse(taint.timeAdded ?? '');
      if (!Number.isNaN(stated)) return stated;
      const key = `${node.metadata.uid} ${taint.key}=${taint.value ?? ''}`;
      const seen = seenMs.get(key) ?? clock.now();
      seenMs.set(key, seen);
      return seen;
    };

  const reconcile = async (key: string): Promise<void> => {
    const pod = pods.get(key);
    const node = nodes.get(pod?.spec.nodeName ?? '');
    if (pod === undefined || node === undefined || isPodTerminating(pod)) return;
    const due = evictionDueMs(executing(node), (pod.spec.tolerations ?? []) as Toleration[], sinceMs(node));
    if (due === undefined) return;
    const waitMs = due - clock.now();
    if (waitMs > 0) {
      queue.addAfter(key, waitMs);
      return;
    }
    const { name, namespace } = pod.metadata;
    events.record(pod, 'Normal', 'TaintManagerEviction', `Marking for deletion Pod ${namespace}/${name}`);
    await markDisrupted(client, pod, TAINTED, clock.now());
    await deletePod(client, pod);
  };

  const queue = createWorkQueue({ log }, { name: 'taint eviction' }, reconcile);
  pods.addHandlers({
    upsert(pod: Pod) {
      if (executing(nodes.get(pod.spec.nodeName ?? '')).length > 0) queue.add(objectKey(pod));
    },
    remove: () => {},
  });
  nodes.addHandlers({
    upsert(node, old) {
      const taints = executing(node);
      if (JSON.stringify(taints) === JSON.stringify(executing(old))) return;
      if (taints.length === 0)
        for (const key of [...seenMs.keys()]) if (key.startsWith(`${node.metadata.uid} `)) seenMs.delete(key);
      if (taints.length > 0)
        for (const pod of pods.all()) if (pod.spec.nodeName === node.metadata.name) queue.add(objectKey(pod));
    },
    remove: () => {},
  });
  return queue;
}
