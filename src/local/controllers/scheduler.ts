// The scheduler: a node for every pod that has none. placement.ts decides; what cannot be placed says why, in its status
// and by an event, and is looked at again when nodes or other pods change.

import { objectKey } from '#k8s/informer.ts';
import { NAMESPACES, NODES, PODS, type Pod } from '#k8s/objects.ts';
import type { Labels } from '#k8s/selectors.ts';
import { isConflict, isNotFound } from '#k8s/status.ts';
import {
  PERSISTENT_VOLUME_CLAIMS,
  PERSISTENT_VOLUMES,
  type PersistentVolumeClaim,
  SELECTED_NODE,
  STORAGE_CLASSES,
} from '#k8s/storage.ts';
import { createEvents } from '#local/kubelet/events.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { nodeFacts } from './daemon-sets.ts';
import { type Placement, placePod } from './placement.ts';
import { isPodActive } from './pods.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { withCondition, writeStatus } from './status.ts';
import { type StorageView, volumeNeeds } from './volume-binding.ts';

const OUR_NAME = 'default-scheduler';

const isWaiting = (pod: Pod): boolean =>
  (pod.spec.nodeName ?? '') === '' && isPodActive(pod) && (pod.spec.schedulerName ?? OUR_NAME) === OUR_NAME;

export function createScheduler(context: ControllerContext): WorkQueue {
  const { client, informers, log, clock } = context;
  const pods = informers.of(PODS);
  const nodes = informers.of(NODES);
  const namespaces = informers.of(NAMESPACES);
  const events = createEvents({ client, log, clock }, { component: OUR_NAME }, PODS);
  const podsSettled = settleOn(pods);
  const claims = informers.of(PERSISTENT_VOLUME_CLAIMS);
  const volumes = informers.of(PERSISTENT_VOLUMES);
  const classes = informers.of(STORAGE_CLASSES);
  const claimsSettled = settleOn(claims);
  const storage: StorageView = {
    claim: (namespace, name) => claims.get(`${namespace}/${name}`),
    volume: (name) => volumes.get(name),
    volumes: () => volumes.all(),
    storageClass: (name) => classes.get(name),
  };
  /** Keys of pods that found no node. */
  const refused = new Set<string>();

  const selectNode = async ({ metadata }: PersistentVolumeClaim, node: string): Promise<void> => {
    const { name, namespace = '', resourceVersion } = metadata;
    const body = { metadata: { resourceVersion, annotations: { [SELECTED_NODE]: node } } };
    const chosen = await client.patch(PERSISTENT_VOLUME_CLAIMS, name, 'merge', body, { namespace });
    await claimsSettled.updated(chosen);
  };

  const reconcile = async (key: string): Promise<void> => {
    const pod = pods.get(key);
    refused.delete(key);
    if (pod === undefined || !isWaiting(pod)) return;
    const { name, namespace = '', uid } = pod.metadata;
    const labels = new Map<string, Labels>(
      [...namespaces.all()].map(({ metadata }) => [metadata.name, metadata.labels ?? {}]),
    );
    const needs = volumeNeeds(pod, storage);
    if (needs.kind === 'binding') {
      refused.add(key);
      return;
    }
    const all = [...nodes.all()];
    const placement: Placement =
      needs.kind === 'none'
        ? { kind: 'none', reason: `0/${all.length} nodes are available: ${needs.reason}.` }
        : placePod(pod, all, [...pods.all()], labels, needs.refuse);
    if (placement.kind === 'node' && needs.kind === 'some' && needs.unbound.length > 0) {
      // Its volumes are made where it will run; it is placed when they are there.
      refused.add(key);
      for (const claim of needs.unbound) await selectNode(claim, placement.node);
      return;
    }
    if (placement.kind === 'node') {
      const binding = {
        apiVersion: 'v1',
        kind: 'Binding',
        metadata: { name, namespace, uid },
        target: { apiVersion: 'v1', kind: 'Node', name: placement.node },
      };
      try {
        await client.request('POST', `/api/v1/namespaces/${namespace}/pods/${name}/binding`, binding);
      } catch (error) {
        // Somebody was faster, or it ends: what became of it comes by the watch.
        if (isConflict(error) || isNotFound(error)) return;
        throw error;
      }
      await podsSettled.shown(pod, ({ spec }) => (spec.nodeName ?? '') !== '');
      events.record(pod, 'Normal', 'Scheduled', `Successfully assigned ${key} to ${placement.node}`);
      return;
    }
    refused.add(key);
    events.record(pod, 'Warning', 'FailedScheduling', placement.reason);
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
  const lookAgain = (): void => {
    for (const key of refused) queue.add(key);
  };
  pods.addHandlers({
    upsert(pod, old) {
      const key = objectKey(pod);
      // Its own status saying that it was refused is no news.
      if (isWaiting(pod) && !refused.has(key)) queue.add(key);
      else if (isWaiting(pod) && old !== undefined && pod.metadata.generation !== old.metadata.generation)
        queue.add(key);
      if (roomFacts(pod) !== roomFacts(old)) lookAgain();
    },
    remove(pod) {
      refused.delete(objectKey(pod));
      lookAgain();
    },
  });
  nodes.addHandlers({
    upsert(node, old) {
      if (old === undefined || nodeFacts(node) !== nodeFacts(old)) lookAgain();
    },
    remove: lookAgain,
  });
  // Each change of these may let a pod go.
  for (const informer of [claims, volumes, classes])
    informer.addHandlers({ upsert: lookAgain, remove: lookAgain });
  return queue;
}

/** What of a pod bears on the placement of others; nothing while it has no node. */
function roomFacts(pod: Pod | undefined): string {
  if (pod === undefined || (pod.spec.nodeName ?? '') === '') return '';
  return JSON.stringify([pod.spec.nodeName, isPodActive(pod), pod.metadata.labels]);
}
