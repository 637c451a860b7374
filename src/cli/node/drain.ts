// `culvert node drain`: cordon, then evict every pod that something makes again elsewhere, minding disruption budgets.

import { sleep } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import { NODES, PODS, type Pod } from '#k8s/objects.ts';
import { apiStatusOf, isNotFound } from '#k8s/status.ts';
import { getNode, type NodeCommandDeps } from './nodes.ts';

const POLL_MS = 200;
/** A budget that is used up is asked again so often. */
const BUDGET_RETRY_MS = 2000;

export interface DrainOptions {
  readonly force: boolean;
  readonly timeoutMs: number;
}

export interface DrainPlan {
  readonly evict: readonly Pod[];
  /** Stay: a DaemonSet would make them again here. */
  readonly daemons: readonly Pod[];
  /** Nothing would make them again. */
  readonly bare: readonly Pod[];
}

export function planDrain(pods: readonly Pod[]): DrainPlan {
  const evict: Pod[] = [];
  const daemons: Pod[] = [];
  const bare: Pod[] = [];
  for (const pod of pods) {
    const controller = pod.metadata.ownerReferences?.find((reference) => reference.controller === true);
    const ended = pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
    if (controller?.kind === 'DaemonSet' && !ended) daemons.push(pod);
    else if (controller === undefined && !ended) bare.push(pod);
    else evict.push(pod);
  }
  return { evict, daemons, bare };
}

const nameOf = ({ metadata }: Pod): string => `${metadata.namespace}/${metadata.name}`;

/** @throws MeshError when bare pods are there and not forced, or pods are left after the time. */
export async function drainNode(deps: NodeCommandDeps, name: string, options: DrainOptions): Promise<void> {
  const { client, write } = deps;
  await getNode(deps, name);
  await client.patch(NODES, name, 'merge', { spec: { unschedulable: true } });
  write(`node ${name} cordoned\n`);
  const { items } = await client.list(PODS, { fieldSelector: `spec.nodeName=${name}` });
  const plan = planDrain(items);
  if (plan.bare.length > 0 && !options.force)
    throw new MeshError(
      'CONFIG_INVALID',
      `nothing would make these pods again: ${plan.bare.map(nameOf).join(', ')}; add --force to delete them`,
    );
  if (plan.daemons.length > 0) write(`ignoring pods of DaemonSets: ${plan.daemons.map(nameOf).join(', ')}\n`);
  const deadline = performance.now() + options.timeoutMs;
  await Promise.all([...plan.evict, ...plan.bare].map((pod) => evictPod(deps, pod, deadline)));
  write(`node ${name} drained\n`);
}

async function evictPod({ client, write }: NodeCommandDeps, pod: Pod, deadline: number): Promise<void> {
  const { name, namespace = '', uid } = pod.metadata;
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}/eviction`;
  const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace } };
  const late = (why: string): MeshError =>
    new MeshError('LOCAL_MACHINE_FAILED', `pod ${nameOf(pod)} is still there: ${why}`);
  let asked = false;
  while (!asked) {
    try {
      await client.request('POST', path, eviction);
      asked = true;
    } catch (error) {
      if (isNotFound(error)) return;
      if (apiStatusOf(error)?.status !== 429) throw error;
      if (performance.now() > deadline) throw late(reasonOf(error));
      await sleep(BUDGET_RETRY_MS);
    }
  }
  for (;;) {
    try {
      if ((await client.get(PODS, name, namespace)).metadata.uid !== uid) break;
    } catch (error) {
      if (isNotFound(error)) break;
      throw error;
    }
    if (performance.now() > deadline) throw late('it takes long to end');
    await sleep(POLL_MS);
  }
  write(`pod ${nameOf(pod)} evicted\n`);
}
