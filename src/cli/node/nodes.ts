// Nodes of the local mesh through its API: a Node object is the wish for a node, and the machine makes it true.

import { sleep } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { NODES, type Node, PODS, type Pod } from '#k8s/objects.ts';
import { isAlreadyExists, isNotFound } from '#k8s/status.ts';

/** On a Node: `off` is a node without power (local/machine/node-wishes.ts). */
const POWER_ANNOTATION = 'culvert.local/power';
/** What the node has of the machine (local/kubelet/node-status.ts). */
const CPU_ANNOTATION = 'culvert.local/cpu';
const MEMORY_ANNOTATION = 'culvert.local/memory';
const ZONE_LABEL = 'topology.kubernetes.io/zone';
const POLL_MS = 100;
const READY_LIMIT_MS = 60_000;

export interface NodeCommandDeps {
  readonly client: KubeClient;
  readonly write: (text: string) => void;
}

export async function listNodes({ client, write }: NodeCommandDeps): Promise<void> {
  const [nodes, pods] = await Promise.all([client.list(NODES), client.list(PODS)]);
  write(renderNodes(nodes.items, pods.items));
}

/** One line a node, in columns. */
export function renderNodes(nodes: readonly Node[], pods: readonly Pod[]): string {
  const rows = [...nodes]
    .sort((a, b) => a.metadata.name.localeCompare(b.metadata.name, 'en', { numeric: true }))
    .map((node) => [
      node.metadata.name,
      stateOf(node),
      node.metadata.labels?.[ZONE_LABEL] ?? '-',
      node.status?.addresses?.find(({ type }) => type === 'InternalIP')?.address ?? '-',
      node.spec?.podCIDR ?? '-',
      String(pods.filter((pod) => pod.spec.nodeName === node.metadata.name && !hasEnded(pod)).length),
    ]);
  const table = [['NAME', 'STATUS', 'ZONE', 'ADDRESS', 'POD-CIDR', 'PODS'], ...rows];
  const widths = (table[0] as string[]).map((_, column) =>
    Math.max(...table.map((row) => (row[column] ?? '').length)),
  );
  return table
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd((widths[column] ?? 0) + 3))
        .join('')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

function stateOf(node: Node): string {
  const ready = node.status?.conditions?.find(({ type }) => type === 'Ready')?.status;
  const words = [ready === 'True' ? 'Ready' : 'NotReady'];
  if (node.metadata.annotations?.[POWER_ANNOTATION] === 'off') words.push('PoweredOff');
  if (node.spec?.unschedulable === true) words.push('SchedulingDisabled');
  return words.join(',');
}

const hasEnded = ({ status }: Pod): boolean => status?.phase === 'Succeeded' || status?.phase === 'Failed';
const isReady = (node: Node): boolean =>
  node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;

export interface NodeOptions {
  readonly zone?: string;
  /** What it has of the machine; all of it unless given. */
  readonly cpu?: string;
  readonly memory?: string;
}

export async function addNode(
  deps: NodeCommandDeps,
  name: string,
  { zone, cpu, memory }: NodeOptions = {},
): Promise<void> {
  const labels = zone === undefined ? {} : { [ZONE_LABEL]: zone };
  const annotations = {
    ...(cpu === undefined ? {} : { [CPU_ANNOTATION]: cpu }),
    ...(memory === undefined ? {} : { [MEMORY_ANNOTATION]: memory }),
  };
  try {
    const metadata = { name, labels, annotations };
    await deps.client.create(NODES, { apiVersion: 'v1', kind: NODES.kind, metadata });
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    throw new MeshError('CONFIG_INVALID', `there is a node ${name} already; choose another name`);
  }
  await untilReady(deps, name);
  deps.write(`node ${name} is ready\n`);
}

export async function setSchedulable(
  deps: NodeCommandDeps,
  name: string,
  schedulable: boolean,
): Promise<void> {
  await getNode(deps, name);
  await deps.client.patch(NODES, name, 'merge', { spec: { unschedulable: schedulable ? null : true } });
  deps.write(`node ${name} ${schedulable ? 'uncordoned' : 'cordoned'}\n`);
}

export async function killNode(deps: NodeCommandDeps, name: string): Promise<void> {
  await getNode(deps, name);
  await deps.client.patch(NODES, name, 'merge', { metadata: { annotations: { [POWER_ANNOTATION]: 'off' } } });
  deps.write(
    `node ${name} has no power; the cluster notices within some seconds (kubectl get nodes -w). Start it with: culvert node start ${name}\n`,
  );
}

export async function startNode(deps: NodeCommandDeps, name: string): Promise<void> {
  const node = await getNode(deps, name);
  if (node.metadata.annotations?.[POWER_ANNOTATION] !== 'off') {
    deps.write(`node ${name} has power already\n`);
    return;
  }
  const bootId = node.status?.nodeInfo?.bootID;
  await deps.client.patch(NODES, name, 'merge', { metadata: { annotations: { [POWER_ANNOTATION]: null } } });
  // An old Ready may still stand when it was killed a moment ago.
  await untilReady(deps, name, (started) => started.status?.nodeInfo?.bootID !== bootId);
  deps.write(`node ${name} is ready\n`);
}

export async function removeNode(deps: NodeCommandDeps, name: string): Promise<void> {
  await getNode(deps, name);
  await deps.client.delete(NODES, name);
  await until(`node ${name} to be gone`, async () => (await findNode(deps, name)) === undefined);
  deps.write(`node ${name} removed\n`);
}

/** @throws MeshError CONFIG_INVALID that names the nodes there are. */
export async function getNode(deps: NodeCommandDeps, name: string): Promise<Node> {
  const found = await findNode(deps, name);
  if (found !== undefined) return found;
  const names = (await deps.client.list(NODES)).items.map(({ metadata }) => metadata.name);
  throw new MeshError(
    'CONFIG_INVALID',
    `there is no node ${JSON.stringify(name)}; the nodes are ${names.sort().join(', ')}`,
  );
}

async function findNode({ client }: NodeCommandDeps, name: string): Promise<Node | undefined> {
  try {
    return await client.get(NODES, name);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function untilReady(
  deps: NodeCommandDeps,
  name: string,
  also: (node: Node) => boolean = () => true,
): Promise<void> {
  await until(`node ${name} to be ready; look with: kubectl describe node ${name}`, async () => {
    const node = await findNode(deps, name);
    return node !== undefined && isReady(node) && also(node);
  });
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + READY_LIMIT_MS;
  while (!(await condition())) {
    if (performance.now() > deadline)
      throw new MeshError('LOCAL_MACHINE_FAILED', `waited ${READY_LIMIT_MS / 1000} s for ${what}`);
    await sleep(POLL_MS);
  }
}
