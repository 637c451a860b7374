// Pods that no kubelet will ever end: of a node that was removed, or that a person declared out of service.

import { objectKey } from '#k8s/informer.ts';
import { NODES, PODS, type Pod } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import type { ControllerContext } from './context.ts';
import { deletePod, isNodeReady, isPodTerminating, markDisrupted } from './pods.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { OUT_OF_SERVICE_TAINT } from './tolerations.ts';

/** The node of a pod may be about to be made; and one that is removed ends its pods itself if it can. */
const MISSING_NODE_MS = 5_000;

const ORPHANED = { reason: 'DeletionByPodGC', message: 'PodGC: node no longer exists' };

export function createPodGarbageCollector(context: ControllerContext): WorkQueue {
  const { client, informers, log, clock } = context;
  const pods = informers.of(PODS);
  const nodes = informers.of(NODES);
  const waited = new Set<string>();

  const reconcile = async (key: string): Promise<void> => {
    const pod = pods.get(key);
    const nodeName = pod?.spec.nodeName ?? '';
    const node = nodes.get(nodeName);
    if (pod === undefined || nodeName === '' || (node !== undefined && !mayGiveUp(pod))) {
      waited.delete(key);
      return;
    }
    if (node === undefined) {
      if (!waited.has(key)) {
        waited.add(key);
        queue.addAfter(key, MISSING_NODE_MS);
        return;
      }
      waited.delete(key);
      // The copy may be behind: only the server's own word gives a pod up.
      if (await exists(nodeName)) return;
      await markDisrupted(client, pod, ORPHANED, clock.now());
    }
    await deletePod(client, pod, 0);
  };

  const exists = async (nodeName: string): Promise<boolean> => {
    try {
      await client.get(NODES, nodeName);
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  };

  const mayGiveUp = (pod: Pod): boolean => {
    const node = nodes.get(pod.spec.nodeName ?? '');
    return (
      node !== undefined &&
      isPodTerminating(pod) &&
      !isNodeReady(node) &&
      (node.spec?.taints ?? []).some(({ key }) => key === OUT_OF_SERVICE_TAINT)
    );
  };

  const queue = createWorkQueue({ log }, { name: 'pod garbage' }, reconcile);
  const look = (pod: Pod): void => {
    const nodeName = pod.spec.nodeName ?? '';
    if (nodeName !== '' && (nodes.get(nodeName) === undefined || mayGiveUp(pod))) queue.add(objectKey(pod));
  };
  pods.addHandlers({
    upsert: look,
    remove: ({ metadata }) => waited.delete(`${metadata.namespace}/${metadata.name}`),
  });
  const lookAtAll = (): void => {
    for (const pod of pods.all()) look(pod);
  };
  nodes.addHandlers({
    upsert(node, old) {
      if (JSON.stringify(node.spec?.taints) !== JSON.stringify(old?.spec?.taints)) lookAtAll();
    },
    remove: lookAtAll,
  });
  return queue;
}
