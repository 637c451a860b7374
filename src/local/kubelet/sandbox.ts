// A pod's sandbox: its directory on the node, its network namespace, the chained CNI plugins. Written down, so that a new
// LOCAL adopts what runs.

import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { reasonOf } from '#base/errors.ts';
import type { Pod } from '#k8s/objects.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import { ADDRESSES, CLUSTER_DOMAIN, nodeAddresses, podAddresses } from '#local/machine/plan.ts';
import type { IpPool } from '#local/net/ip-pool.ts';
import type { PodPolicies } from '#local/net/network-policies.ts';
import { addPodNetwork, type PodLink, podNetnsPath, removePodNetwork } from '#local/net/pod-network.ts';
import type { IpAddress } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import { addChained, deleteChained } from './cni.ts';
import { addPodProc, removePodProc } from './pod-proc.ts';
import { resolvConf } from './resolv-conf.ts';

export interface Sandbox {
  readonly id: string;
  /** The one that counts where only one can: the first of `podIps`. */
  readonly podIp: IpAddress;
  /** One of each family, in the cluster's order. */
  readonly podIps: readonly IpAddress[];
  readonly hostNetwork: boolean;
  /** Seen from LOCAL. */
  readonly netnsPath: string;
  readonly startTime: string;
}

export interface SandboxDeps {
  readonly node: EmulatedNode;
  readonly pool: IpPool;
  readonly policies: PodPolicies;
  readonly log: Logger;
}

interface SandboxFile {
  readonly id: string;
  readonly podIp: IpAddress;
  readonly startTime: string;
  readonly pod: Pod;
}

const PODS_DIR = '/var/lib/kubelet/pods';

/** As a path of the node. */
export function podDirOf(podUid: string): string {
  return `${PODS_DIR}/${podUid}`;
}

/** @throws MeshError; nothing is left behind but the address's turn in the pool. */
export async function createSandbox(deps: SandboxDeps, pod: Pod, attempt: number): Promise<Sandbox> {
  const { node, pool, policies, log } = deps;
  const uid = pod.metadata.uid ?? '';
  const hostNetwork = pod.spec.hostNetwork === true;
  const dir = join(node.rootPath, podDirOf(uid));
  const podIp = hostNetwork ? node.plan.networks[0].address : pool.take();
  const content: SandboxFile = { id: `${uid}-${attempt}`, podIp, startTime: new Date().toISOString(), pod };
  const sandbox = sandboxOf(node, content);
  const { podIps } = sandbox;
  try {
    for (const part of ['etc', 'volumes', 'containers', 'run', 'tmp'])
      await mkdir(join(dir, part), { recursive: true, mode: 0o755 });
    await writeEtc(join(dir, 'etc'), pod, podIps, node);
    // Written before the network is made: what a LOCAL killed in between left is found and removed by the next.
    const fresh = join(dir, 'sandbox.json.new');
    await writeFile(fresh, JSON.stringify(content), { mode: 0o600 });
    await rename(fresh, join(dir, 'sandbox.json'));
    if (!hostNetwork) {
      // Before the pod has an interface: no packet of it passes unjudged.
      await policies.podStarts(pod, podIps);
      await addPodNetwork(node, podLink(node, uid, podIps));
      await addPodProc(node, uid);
      await addChained(node, { pod, podIps, sandboxId: sandbox.id });
    }
    await writeFile(join(dir, 'ready'), '');
    return sandbox;
  } catch (error) {
    await removeSandbox(deps, pod, sandbox).catch((cleanup: unknown) => {
      log.warn('a failed sandbox could not be removed whole', { pod: uid, error: reasonOf(cleanup) });
    });
    throw error;
  }
}

/** DEL of the chained plugins, network, directory. A plugin that fails does not keep the pod from going. */
export async function removeSandbox(
  { node, pool, log }: SandboxDeps,
  pod: Pod,
  sandbox: Sandbox,
): Promise<void> {
  const uid = pod.metadata.uid ?? '';
  if (!sandbox.hostNetwork) {
    try {
      await deleteChained(node, { pod, podIps: sandbox.podIps, sandboxId: sandbox.id });
    } catch (error) {
      log.warn('a CNI plugin failed to remove a pod', {
        pod: `${pod.metadata.namespace}/${pod.metadata.name}`,
        error: reasonOf(error),
      });
    }
    await removePodProc(node, uid);
    await removePodNetwork(node, uid);
    pool.release(sandbox.podIp);
  }
  await rm(join(node.rootPath, podDirOf(uid)), { recursive: true, force: true });
}

export interface FoundSandbox {
  readonly pod: Pod;
  readonly sandbox: Sandbox;
  /** False when its making was cut short. */
  readonly complete: boolean;
}

/** What a former LOCAL left on the node. */
export async function findSandboxes(node: EmulatedNode): Promise<FoundSandbox[]> {
  const dir = join(node.rootPath, PODS_DIR);
  if (!existsSync(dir)) return [];
  const found: FoundSandbox[] = [];
  for (const uid of await readdir(dir)) {
    const file = join(dir, uid, 'sandbox.json');
    if (!existsSync(file)) continue;
    const content = JSON.parse(await readFile(file, 'utf8')) as SandboxFile;
    found.push({
      pod: content.pod,
      sandbox: sandboxOf(node, content),
      complete: existsSync(join(dir, uid, 'ready')),
    });
  }
  return found;
}

function sandboxOf(node: EmulatedNode, { id, podIp, startTime, pod }: SandboxFile): Sandbox {
  const hostNetwork = pod.spec.hostNetwork === true;
  return {
    id,
    podIp,
    podIps: hostNetwork ? nodeAddresses(node.plan) : podAddresses(node.plan, podIp),
    hostNetwork,
    startTime,
    netnsPath: hostNetwork ? node.netnsPath : join(node.rootPath, podNetnsPath(pod.metadata.uid ?? '')),
  };
}

function podLink({ plan }: EmulatedNode, podUid: string, podIps: readonly IpAddress[]): PodLink {
  const nodeIps = nodeAddresses(plan);
  return { podUid, addresses: podIps.map((podIp, index) => ({ podIp, nodeIp: nodeIps[index]! })) };
}

/** The name a pod's programs see; host-network pods see the node's. */
export function hostnameOf(pod: Pod, nodeName: string): string {
  return pod.spec.hostNetwork === true ? nodeName : (pod.spec.hostname ?? pod.metadata.name).slice(0, 63);
}

async function writeEtc(
  dir: string,
  pod: Pod,
  podIps: readonly string[],
  { plan }: EmulatedNode,
): Promise<void> {
  const namespace = pod.metadata.namespace ?? 'default';
  const hostname = hostnameOf(pod, plan.name);
  const names =
    pod.spec.subdomain === undefined
      ? hostname
      : `${hostname}.${pod.spec.subdomain}.${namespace}.svc.${CLUSTER_DOMAIN}\t${hostname}`;
  await writeFile(join(dir, 'resolv.conf'), resolvConf(pod, ADDRESSES[plan.networks[0].family].dnsService));
  await writeFile(
    join(dir, 'hosts'),
    `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n${podIps.map((podIp) => `${podIp}\t${names}\n`).join('')}`,
  );
  await writeFile(join(dir, 'hostname'), `${hostname}\n`);
}
