// Pods that come and go through the whole chain (kubelet, plugin, agent, ztunnel), and what of them stays behind on the nodes.
// `npm run pod-cycles [-- PODS]` prints descriptors, rules, mounts, set entries and memory before and after; status 0: flat.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type KubeObject, PODS, type Pod } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { type Mesh, startMesh, until } from '../e2e/harness.ts';
import { type Sample, sampleProcess } from './process-sample.ts';

const NAMESPACE = 'pod-cycles';
const NODES = ['n1', 'n2'] as const;
const PROGRAMS = ['cni', 'ztunnel'] as const;
const LANES = 4;
const WARM_UP = 16;
const LIMIT_MS = 60_000;
/** The kernel and the programs may take a moment to let go of what was closed. */
const SETTLE_LIMIT_MS = 20_000;

/** By what is counted and where. */
export type Census = ReadonlyMap<string, number>;

export async function takeCensus(mesh: Mesh): Promise<Census> {
  const census = new Map<string, number>();
  for (const node of NODES) {
    for (const program of PROGRAMS) {
      const { descriptors, pssKiB }: Sample = sampleProcess(mesh.pidOf(program, node));
      census.set(`${node} ${program} descriptors`, descriptors ?? 0);
      census.set(`${node} ${program} PSS KiB`, pssKiB ?? 0);
    }
    const { entries, rules } = await readRules(mesh, node);
    census.set(`${node} set entries`, entries);
    census.set(`${node} rules`, rules);
    const mounts = readFileSync(`/proc/${mesh.pidOf('cni', node)}/mountinfo`, 'utf8');
    census.set(`${node} mounts`, mounts.split('\n').length - 1);
  }
  return census;
}

/** Of all nftables in the node's own namespace; the emulated services have theirs there as well. */
async function readRules(mesh: Mesh, node: string): Promise<{ entries: number; rules: number }> {
  const { nftables } = JSON.parse(await mesh.inNode(node, 'nft', '-j', 'list', 'ruleset')) as {
    nftables: { rule?: object; set?: { elem?: unknown[] }; map?: { elem?: unknown[] } }[];
  };
  const sizeOf = (set?: { elem?: unknown[] }): number => set?.elem?.length ?? 0;
  return {
    entries: nftables.reduce((sum, { set, map }) => sum + sizeOf(set) + sizeOf(map), 0),
    rules: nftables.filter(({ rule }) => rule !== undefined).length,
  };
}

/** What has grown, in words; empty when it is flat. */
export function growthOf(before: Census, after: Census): string[] {
  return [...after].flatMap(([what, amount]) => {
    const former = before.get(what) ?? 0;
    // Memory finds its size by garbage collection, not by the pods that are gone; everything else is counted.
    const allowed = what.endsWith('KiB') ? 6 * 1024 + 0.15 * former : what.endsWith('descriptors') ? 2 : 0;
    return amount <= former + allowed ? [] : [`${what}: ${former} → ${amount}`];
  });
}

export interface PodCycles {
  readonly before: Census;
  readonly after: Census;
  readonly seconds: number;
}

export async function cyclePods(mesh: Mesh, pods: number): Promise<PodCycles> {
  await mesh.apply(`
apiVersion: v1
kind: Namespace
metadata: { name: ${NAMESPACE}, labels: { istio.io/dataplane-mode: ambient } }
`);
  await run(mesh, WARM_UP, 'warm');
  const before = await takeCensus(mesh);
  const startedAt = performance.now();
  await run(mesh, pods, 'pod');
  const seconds = (performance.now() - startedAt) / 1000;
  let after = await takeCensus(mesh);
  const deadline = performance.now() + SETTLE_LIMIT_MS;
  while (growthOf(before, after).length > 0 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    after = await takeCensus(mesh);
  }
  await mesh.kubectl('delete', 'namespace', NAMESPACE, '--wait=false');
  return { before, after, seconds };
}

async function run(mesh: Mesh, pods: number, prefix: string): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < pods) {
      const number = next++;
      await cycle(mesh, `${prefix}-${number}`, NODES[number % NODES.length]!);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

/** Comes, is in the mesh, goes. */
async function cycle(mesh: Mesh, name: string, node: string): Promise<void> {
  const { client } = mesh;
  await client.create(PODS, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: NAMESPACE },
    spec: {
      nodeName: node,
      containers: [{ name: 'main', image: 'local/shell', command: ['sleep', 'infinity'] }],
    },
  } satisfies Pod);
  await until(
    async () => {
      const { status, metadata } = await client.get<Pod>(PODS, name, NAMESPACE);
      return (
        status?.phase === 'Running' && metadata.annotations?.['ambient.istio.io/redirection'] === 'enabled'
      );
    },
    `${name} to run in the mesh`,
    LIMIT_MS,
  );
  await client.delete(PODS, name, { namespace: NAMESPACE, gracePeriodSeconds: 0 });
  await until(() => isGone(client.get<KubeObject>(PODS, name, NAMESPACE)), `${name} to go`, LIMIT_MS);
}

const isGone = (answer: Promise<unknown>): Promise<boolean> =>
  answer.then(
    () => false,
    (error: unknown) => {
      if (isNotFound(error)) return true;
      throw error;
    },
  );

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const pods = Number(process.argv[2] ?? '500');
  if (!(pods > 0)) {
    console.error('pod-cycles: how many pods? A number above 0, or nothing for 500');
    process.exit(2);
  }
  const mesh = await startMesh({ sample: false });
  try {
    const { before, after, seconds } = await cyclePods(mesh, pods);
    console.log(`| | before | after ${pods} pods |\n|---|---|---|`);
    for (const [what, amount] of after) console.log(`| ${what} | ${before.get(what)} | ${amount} |`);
    const growth = growthOf(before, after);
    console.log(
      `pod-cycles: ${(pods / seconds).toFixed(1)} pods/s; ${growth.length === 0 ? 'flat' : growth.join('; ')}`,
    );
    process.exitCode = growth.length === 0 ? 0 : 1;
  } finally {
    await mesh.stop();
  }
}
