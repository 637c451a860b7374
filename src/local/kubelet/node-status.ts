// The Node object and its Lease, as its kubelet keeps them: labels, status, heartbeat. The object itself is somebody's wish
// for a node (machine/node-wishes.ts) and stands before its kubelet starts.

import { readFileSync, statfsSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import type { Clock } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { type Condition, type KubeObject, LEASES, NODES, type Node } from '#k8s/objects.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import { type NodePlan, nodeAddresses } from '#local/machine/plan.ts';
import type { Logger } from '#telemetry/log.ts';
import { keepTransitionTimes } from './pod-status.ts';

export interface NodeStatusDeps {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly clock: Clock;
  /** The Node as the cluster has it at present. */
  readonly nodeObject: () => Node | undefined;
}

export interface NodeRegistration {
  close(): void;
}

const LEASE_NAMESPACE = 'kube-node-lease';
const LEASE_SECONDS = 12;
/** The node lifecycle controller calls a node unreachable after 12 s without one. */
const HEARTBEAT_MS = 4_000;
/** What the API server claims to be (`/version`). */
const KUBELET_VERSION = 'v1.37.0+culvert';

/** Sets the node Ready and renews its lease until closed. @throws MeshError of the API. */
export async function registerNode(deps: NodeStatusDeps, node: EmulatedNode): Promise<NodeRegistration> {
  const { client, log, nodeObject } = deps;
  const { name } = node.plan;
  const present = nodeObject();
  const capacity = (): Record<string, string> => capacityOf(nodeObject(), machine);
  const machine = machineCapacity(node);
  // A zone that a person gave is part of the plan by now; labels that others added stay.
  const labels = missingLabels(nodeLabels(node.plan), present?.metadata.labels);
  if (labels !== undefined) await client.patch(NODES, name, 'merge', { metadata: { labels } });
  await writeNodeStatus(deps, node, capacity());

  let renewing = false;
  const renew = async (): Promise<void> => {
    if (renewing) return;
    renewing = true;
    try {
      await renewLease(deps, name);
      // Called unreachable after a pause of the machine: it is not. Or it is to have more or less of the machine now.
      if (!isReadyNode(nodeObject()) || !showsCapacity(nodeObject(), capacity()))
        await writeNodeStatus(deps, node, capacity());
    } catch (error) {
      log.debug('the node lease was not renewed', { node: name, error: reasonOf(error) });
    } finally {
      renewing = false;
    }
  };
  const timer = setInterval(() => {
    renew().catch((error: unknown) => log.debug('heartbeat', { error: reasonOf(error) }));
  }, HEARTBEAT_MS);
  await renew();
  return { close: () => clearInterval(timer) };
}

/** On a Node: how much of the machine it has; the API server lets only quantities pass. */
const CAPACITY_ANNOTATION = 'culvert.local/';

/** Every node has the whole machine unless its object says otherwise. */
export function capacityOf(node: Node | undefined, machine: MachineCapacity): Record<string, string> {
  const said = (name: string): string | undefined => node?.metadata.annotations?.[CAPACITY_ANNOTATION + name];
  return {
    cpu: said('cpu') ?? String(machine.cpus),
    memory: said('memory') ?? `${Math.floor(machine.memoryBytes / 1024)}Ki`,
    'ephemeral-storage': `${Math.floor(machine.storageBytes / 1024)}Ki`,
    pods: '110',
  };
}

export interface MachineCapacity {
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Of the node's own file system. */
  readonly storageBytes: number;
}

function machineCapacity(node: EmulatedNode): MachineCapacity {
  const { blocks, bsize } = statfsSync(node.rootPath);
  return { cpus: cpus().length, memoryBytes: totalmem(), storageBytes: blocks * bsize };
}

/** Whether the object shows what the node has now. */
const showsCapacity = (node: Node | undefined, capacity: Readonly<Record<string, string>>): boolean =>
  node === undefined ||
  Object.entries(capacity).every(([name, value]) => node.status?.allocatable?.[name] === value);

const isReadyNode = (node: Node | undefined): boolean =>
  node === undefined ||
  (node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false);

function missingLabels(
  wanted: Readonly<Record<string, string>>,
  present: Readonly<Record<string, string>> = {},
): Record<string, string> | undefined {
  const missing = Object.entries(wanted).filter(([label, value]) => present[label] !== value);
  return missing.length === 0 ? undefined : Object.fromEntries(missing);
}

async function writeNodeStatus(
  { client, clock, nodeObject }: NodeStatusDeps,
  node: EmulatedNode,
  capacity: Readonly<Record<string, string>>,
): Promise<void> {
  const status = nodeStatus(node.plan, bootIdOf(node), capacity, new Date(clock.now()).toISOString());
  const conditions = keepTransitionTimes(
    status.conditions ?? [],
    nodeObject()?.status?.conditions ?? [],
    new Date(clock.now()).toISOString(),
  );
  const body = { status: { ...status, conditions } };
  await client.patch(NODES, node.plan.name, 'merge', body, { subresource: 'status' });
}

/** Another one after every start of the node. */
const bootIdOf = ({ keeper }: EmulatedNode): string => `${keeper.pid}-${keeper.startTicks}`;

export function nodeLabels(plan: NodePlan): Record<string, string> {
  return {
    'kubernetes.io/hostname': plan.name,
    'kubernetes.io/os': 'linux',
    'kubernetes.io/arch': arch() === 'x64' ? 'amd64' : arch(),
    'topology.kubernetes.io/region': 'local',
    'topology.kubernetes.io/zone': plan.zone,
  };
}

export function nodeStatus(
  plan: NodePlan,
  bootId: string,
  capacity: Readonly<Record<string, string>>,
  now: string,
): NonNullable<Node['status']> & Record<string, unknown> {
  const condition = (type: string, status: 'True' | 'False', reason: string, message: string): Condition => ({
    type,
    status,
    reason,
    message,
    lastHeartbeatTime: now,
    lastTransitionTime: now,
  });
  return {
    addresses: [
      ...nodeAddresses(plan).map((address) => ({ type: 'InternalIP', address })),
      { type: 'Hostname', address: plan.name },
    ],
    capacity,
    allocatable: capacity,
    conditions: [
      condition('MemoryPressure', 'False', 'KubeletHasSufficientMemory', 'not limited in local mode'),
      condition('DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'not limited in local mode'),
      condition('PIDPressure', 'False', 'KubeletHasSufficientPID', 'not limited in local mode'),
      condition('Ready', 'True', 'KubeletReady', 'the emulated node is up'),
    ],
    nodeInfo: {
      kernelVersion: release(),
      osImage: osName(),
      containerRuntimeVersion: 'culvert://processes',
      kubeletVersion: KUBELET_VERSION,
      kubeProxyVersion: '',
      operatingSystem: 'linux',
      architecture: arch() === 'x64' ? 'amd64' : arch(),
      machineID: plan.name,
      systemUUID: plan.name,
      bootID: bootId,
    },
  };
}

function osName(): string {
  try {
    return /^PRETTY_NAME="?([^"\n]+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux';
  } catch {
    return 'Linux';
  }
}

async function renewLease({ client, clock }: NodeStatusDeps, name: string): Promise<void> {
  const renewTime = new Date(clock.now()).toISOString().replace('Z', '000Z'); // MicroTime
  const spec = { holderIdentity: name, leaseDurationSeconds: LEASE_SECONDS, renewTime };
  try {
    await client.patch(LEASES, name, 'merge', { spec }, { namespace: LEASE_NAMESPACE });
  } catch (error) {
    if (!isStatus(error, 404)) throw error;
    const lease: KubeObject & { spec: unknown } = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name, namespace: LEASE_NAMESPACE },
      spec,
    };
    await client.create<KubeObject>(LEASES, lease, LEASE_NAMESPACE);
  }
}

function isStatus(error: unknown, status: number): boolean {
  return error instanceof MeshError && error.details.status === status;
}
