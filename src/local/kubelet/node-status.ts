// The Node object and its Lease: registration, status, heartbeat.

import { readFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import type { Clock } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { type Condition, type KubeObject, LEASES, NODES, type Node } from '#k8s/objects.ts';
import { type NodePlan, podCidrOf } from '#local/machine/plan.ts';
import type { Logger } from '#telemetry/log.ts';

export interface NodeStatusDeps {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly clock: Clock;
}

export interface NodeRegistration {
  close(): void;
}

const LEASE_NAMESPACE = 'kube-node-lease';
const LEASE_SECONDS = 40;
const HEARTBEAT_MS = 10_000;
/** What the API server claims to be (`/version`). */
const KUBELET_VERSION = 'v1.37.0+culvert';

/** Makes or corrects the Node, sets it Ready, and renews its lease until closed. @throws MeshError of the API. */
export async function registerNode(deps: NodeStatusDeps, plan: NodePlan): Promise<NodeRegistration> {
  const { client, log, clock } = deps;
  const labels = nodeLabels(plan);
  const now = new Date(clock.now()).toISOString();
  const node: Node = {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: plan.name, labels },
    spec: { podCIDR: podCidrOf(plan), podCIDRs: [podCidrOf(plan)] },
  };
  await client.create(NODES, node).catch((error: unknown) => {
    if (!isStatus(error, 409)) throw error;
    // Ours already: labels that the user added stay.
    return client.patch(NODES, plan.name, 'merge', { metadata: { labels } });
  });
  await client.patch(NODES, plan.name, 'merge', { status: nodeStatus(plan, now) }, { subresource: 'status' });

  let renewing = false;
  const renew = async (): Promise<void> => {
    if (renewing) return;
    renewing = true;
    try {
      await renewLease(deps, plan.name);
    } catch (error) {
      log.debug('the node lease was not renewed', { node: plan.name, error: reasonOf(error) });
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
  now: string,
): NonNullable<Node['status']> & Record<string, unknown> {
  const capacity = {
    cpu: String(cpus().length),
    memory: `${Math.floor(totalmem() / 1024)}Ki`,
    pods: '110',
  };
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
      { type: 'InternalIP', address: plan.address },
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
      bootID: plan.name,
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
