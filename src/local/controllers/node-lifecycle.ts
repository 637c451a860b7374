// Nodes that fall silent: a node whose kubelet no longer renews its lease is called unreachable, its pods not ready, and
// taints keep new pods away and move old ones off (taint-eviction.ts). Cordoned nodes get their taint here, too.

import { objectKey } from '#k8s/informer.ts';
import { type Condition, type KubeObject, LEASES, NODES, type Node, PODS } from '#k8s/objects.ts';
import { isConflict, isNotFound } from '#k8s/status.ts';
import { createEvents } from '#local/kubelet/events.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { isPodFinished, isPodReady } from './pods.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { kubeTime, withCondition, writeStatus } from './status.ts';
import { NOT_READY_TAINT, type Taint, UNREACHABLE_TAINT, UNSCHEDULABLE_TAINT } from './tolerations.ts';

/** Three heartbeats of a kubelet. A real cluster waits 50 s; who pulls a plug on one machine looks at the screen. */
export const NODE_GRACE_MS = 12_000;
/** A timer that fires so much too late says that everything stood still, heartbeats included. */
const STALL_MS = 1_500;
const CONDITIONS = ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure'];

const readyStatus = (node: Node): Condition['status'] | undefined =>
  node.status?.conditions?.find(({ type }) => type === 'Ready')?.status;

export function createNodeLifecycleController(context: ControllerContext, graceMs: number): WorkQueue {
  const { client, informers, log, clock } = context;
  const nodes = informers.of(NODES);
  const pods = informers.of(PODS);
  const leases = informers.of(LEASES);
  const events = createEvents({ client, log, clock }, { component: 'node-controller' }, NODES);
  const settled = settleOn(nodes);
  /** When each node was last heard of, by our own clock: theirs may be set. */
  const heardMs = new Map<string, number>();
  const dueMs = new Map<string, number>();

  const silentForMs = (name: string): number => {
    const now = clock.monotonicMs();
    if (now - (dueMs.get(name) ?? now) > STALL_MS)
      for (const other of heardMs.keys()) heardMs.set(other, now);
    const heard = heardMs.get(name) ?? now;
    heardMs.set(name, heard);
    return now - heard;
  };

  const reconcile = async (name: string): Promise<void> => {
    let node = nodes.get(name);
    if (node === undefined) {
      heardMs.delete(name);
      dueMs.delete(name);
      return;
    }
    const silentMs = silentForMs(name);
    const silent = silentMs >= graceMs;
    if (silent && readyStatus(node) === 'True') {
      events.record(node, 'Normal', 'NodeNotReady', `Node ${name} status is now: NodeNotReady`);
      log.warn('a node fell silent', { node: name });
    }
    if (silent && readyStatus(node) !== 'Unknown') node = await markUnknown(node);
    if (silent) await markPods(name);
    await writeTaints(node, silent);
    if (silent) dueMs.delete(name);
    else {
      dueMs.set(name, clock.monotonicMs() + graceMs - silentMs);
      queue.addAfter(name, graceMs - silentMs);
    }
  };

  const markUnknown = async (node: Node): Promise<Node> => {
    let conditions = node.status?.conditions ?? [];
    for (const type of CONDITIONS)
      conditions = withCondition<Condition>(
        conditions,
        {
          type,
          status: 'Unknown',
          reason: 'NodeStatusUnknown',
          message: 'Kubelet stopped posting node status.',
        },
        clock.now(),
      );
    const written = await writeStatus(client, NODES, node, { conditions });
    if (written !== undefined) await settled.updated(written);
    return written ?? node;
  };

  /** Nothing is sent to a pod of a silent node any more. */
  const markPods = async (nodeName: string): Promise<void> => {
    for (const pod of [...pods.all()]) {
      if (pod.spec.nodeName !== nodeName || isPodFinished(pod) || !isPodReady(pod)) continue;
      const conditions = withCondition<Condition>(
        pod.status?.conditions ?? [],
        { type: 'Ready', status: 'False', reason: 'NodeNotReady' },
        clock.now(),
      );
      await writeStatus(client, PODS, pod, { conditions }).catch((error: unknown) => {
        if (!isNotFound(error)) throw error;
      });
    }
  };

  const writeTaints = async (node: Node, silent: boolean): Promise<void> => {
    const present = (node.spec?.taints ?? []) as Taint[];
    const taints = wantedTaints(node, silent, clock.now());
    if (JSON.stringify(taints) === JSON.stringify(present)) return;
    const { name, resourceVersion } = node.metadata;
    try {
      // The version: somebody else's taint that came meanwhile must not be lost.
      const body = { metadata: { resourceVersion }, spec: { taints: taints.length === 0 ? null : taints } };
      await settled.updated(await client.patch(NODES, name, 'merge', body));
    } catch (error) {
      if (isConflict(error)) queue.add(name);
      else if (!isNotFound(error)) throw error;
    }
  };

  const queue = createWorkQueue({ log }, { name: 'nodes' }, reconcile);
  nodes.addHandlers({
    upsert(node, old) {
      // A status that says Ready again is a word of the kubelet as good as a heartbeat, and may come before it.
      if (old !== undefined && readyStatus(node) === 'True' && readyStatus(old) !== 'True')
        heardMs.set(node.metadata.name, clock.monotonicMs());
      if (old === undefined || lifeFacts(node) !== lifeFacts(old)) queue.add(node.metadata.name);
    },
    remove: (node) => queue.add(node.metadata.name),
  });
  leases.addHandlers({
    upsert(lease: KubeObject, old) {
      if (lease.metadata.namespace !== 'kube-node-lease' || renewTime(lease) === renewTime(old)) return;
      const { name } = lease.metadata;
      heardMs.set(name, clock.monotonicMs());
      const node = nodes.get(name);
      if (node !== undefined && !dueMs.has(name)) queue.add(objectKey(node));
    },
    remove: () => {},
  });
  return queue;
}

const renewTime = (lease: KubeObject | undefined): string | undefined =>
  (lease as { spec?: { renewTime?: string } } | undefined)?.spec?.renewTime;

const lifeFacts = (node: Node): string =>
  JSON.stringify([readyStatus(node), node.spec?.unschedulable, node.spec?.taints]);

/**
 * The taints a node should have: those of others as they are, ours as its state asks. `Unknown` alone is no reason for a
 * new taint: a machine that has just started says that of every node until its kubelet has spoken.
 */
export function wantedTaints(node: Node, silent: boolean, nowMs: number): Taint[] {
  const present = (node.spec?.taints ?? []) as Taint[];
  const status = readyStatus(node);
  const wanted = new Map<string, readonly string[]>();
  if (status === 'False') wanted.set(NOT_READY_TAINT, ['NoSchedule', 'NoExecute']);
  const unreachable = silent || present.some(({ key }) => key === UNREACHABLE_TAINT);
  if (status === 'Unknown' && unreachable) wanted.set(UNREACHABLE_TAINT, ['NoSchedule', 'NoExecute']);
  if (node.spec?.unschedulable === true) wanted.set(UNSCHEDULABLE_TAINT, ['NoSchedule']);
  const ours = [NOT_READY_TAINT, UNREACHABLE_TAINT, UNSCHEDULABLE_TAINT];
  const kept = present.filter(
    ({ key, effect }) => !ours.includes(key) || (wanted.get(key)?.includes(effect) ?? false),
  );
  const has = (key: string, effect: string): boolean =>
    kept.some((taint) => taint.key === key && taint.effect === effect);
  for (const [key, effects] of wanted)
    for (const effect of effects)
      if (!has(key, effect)) kept.push({ key, effect, timeAdded: kubeTime(nowMs) });
  return kept;
}
