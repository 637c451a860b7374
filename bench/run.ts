// `npm run bench`: this ztunnel pair against the same path without a proxy, as ratios within one run; with PEER_ZTUNNEL
// naming another implementation's binary, that one in turn with ours; with BENCH_THREADS, ours with so many threads instead.
//
// The mesh runs as `culvert up` makes it (no sample). Two pairs of pods do the same work between the same two nodes: one pair in
// a namespace enrolled in the mesh, one outside it. Rounds alternate between them, so that drift of the machine hits both.

import { realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PODS, type Pod } from '#k8s/objects.ts';
import { type Mesh, projectDir, startMesh, until } from '../test/e2e/harness.ts';
import { thisMachine } from './lib/machine.ts';
import { type CpuClock, cpuSeconds, type Memory, memoryOf } from './lib/process.ts';
import { type Proxies, renderResults } from './lib/report.ts';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? '3');
const SECONDS = Number(process.env.BENCH_SECONDS ?? '4');

export interface Sample {
  readonly mode: Mode;
  readonly amount: number;
  readonly seconds: number;
  readonly requests: number;
  readonly bytes: number;
  readonly p50Us: number;
  readonly p90Us: number;
  readonly p99Us: number;
  /** CPU seconds of each ztunnel during the measured part: outbound (n1) and inbound (n2). */
  readonly cpuOut: number;
  readonly cpuIn: number;
  /** Memory of each ztunnel when the measured part began and ended. */
  readonly memoryBefore: readonly Memory[];
  readonly memoryAfter: readonly Memory[];
}

/** What bench/load.ts does. */
export type Mode = 'latency' | 'rate' | 'down' | 'up' | 'connect' | 'quiet';

export interface Measurement {
  readonly name: string;
  readonly mode: Mode;
  readonly amount: number;
}

export const MEASUREMENTS: readonly Measurement[] = [
  { name: 'one connection, closed loop', mode: 'latency', amount: 1 },
  { name: '1,000 requests/s, 16 connections', mode: 'rate', amount: 1000 },
  { name: 'saturation, 16 connections', mode: 'latency', amount: 16 },
  { name: 'new connections, 8 at a time', mode: 'connect', amount: 8 },
  { name: 'quiet connections', mode: 'quiet', amount: 2000 },
  { name: 'one stream down', mode: 'down', amount: 1 },
  { name: 'one stream up', mode: 'up', amount: 1 },
  { name: 'eight streams down', mode: 'down', amount: 8 },
  { name: 'eight streams up', mode: 'up', amount: 8 },
];

/** Under which name memory is shown after a measurement; of several with one name the last. */
const KINDS: Readonly<Record<Mode, string>> = {
  latency: 'after requests',
  rate: 'after requests',
  connect: 'after new connections',
  quiet: 'after quiet connections, which were closed',
  down: 'after streams',
  up: 'after streams',
};
/** Between the end of a measurement and a look at memory. */
const SETTLE_MS = 2000;
/** How long the proxies are watched with nothing to do. */
const IDLE_MS = 20_000;

/** Only measurements whose name contains one of these texts, for a quick look; the results page is then not written. */
const ONLY = (process.env.BENCH_ONLY ?? '').split('|');
const THREADS = process.env.BENCH_THREADS;
const node = process.execPath;
const say = (text: string): void => console.error(`bench: ${text}`);

const peerManifest = (namespace: string, enrolled: boolean): string => `
apiVersion: v1
kind: Namespace
metadata: { name: ${namespace}, labels: { ${enrolled ? 'istio.io/dataplane-mode: ambient' : 'bench: plain'} } }
---
apiVersion: v1
kind: Pod
metadata: { name: peer, namespace: ${namespace}, labels: { app: peer } }
spec:
  nodeSelector: { kubernetes.io/hostname: n2 }
  terminationGracePeriodSeconds: 1
  containers:
    - name: peer
      image: local/shell
      command: [${JSON.stringify(node)}, ${JSON.stringify(join(projectDir, 'bench/peer.ts'))}]
      readinessProbe: { tcpSocket: { port: 9000 }, periodSeconds: 1 }
`;

const loadManifest = (namespace: string, name: string, args: readonly string[]): string => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace} }
spec:
  nodeSelector: { kubernetes.io/hostname: n1 }
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
    - name: load
      image: local/shell
      command: ${JSON.stringify([node, join(projectDir, 'bench/load.ts'), ...args])}
`;

async function peerAddress(mesh: Mesh, namespace: string): Promise<string> {
  let address = '';
  await until(async () => {
    const pod: Pod = await mesh.client.get(PODS, 'peer', namespace);
    address = pod.status?.podIP ?? '';
    const ready =
      pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
    return ready && address !== '';
  }, `the peer of ${namespace}`);
  return address;
}

let runs = 0;

/** One load pod: reads CPU clocks when it prints `begin` and `end`, and its result at the end. */
async function measure(
  { mesh, ztunnel }: Contender,
  namespace: string,
  address: string,
  { mode, amount }: Measurement,
): Promise<Sample> {
  runs += 1;
  const name = `load-${runs}`;
  const clocks: CpuClock[] = ztunnel.map((pid) => ({ pid }));
  await mesh.apply(loadManifest(namespace, name, [address, mode, String(amount), String(SECONDS)]));
  await until(async () => {
    const pod: Pod = await mesh.client.get(PODS, name, namespace);
    return pod.status?.phase !== 'Pending';
  }, `${name} to start`);
  let before: number[] = [];
  let after: number[] = [];
  let memoryBefore: Memory[] = [];
  let memoryAfter: Memory[] = [];
  let text = '';
  for await (const piece of mesh.client.stream(
    `/api/v1/namespaces/${namespace}/pods/${name}/log?follow=true`,
  )) {
    text += piece;
    if (before.length === 0 && /^begin$/m.test(text)) {
      before = clocks.map(cpuSeconds);
      memoryBefore = ztunnel.map(memoryOf);
    }
    if (after.length === 0 && /^end$/m.test(text)) {
      after = clocks.map(cpuSeconds);
      memoryAfter = ztunnel.map(memoryOf);
    }
    if (/^result .*\n/m.test(text)) break;
  }
  const result = /^result (.*)$/m.exec(text)?.[1];
  if (result === undefined || before.length === 0 || after.length === 0)
    throw new Error(`${name} gave no result:\n${text}`);
  await mesh.client.delete(PODS, name, { namespace, gracePeriodSeconds: 0 });
  const spent = after.map((value, index) => value - (before[index] ?? 0));
  return {
    ...(JSON.parse(result) as Pick<Sample, 'seconds' | 'requests' | 'bytes' | 'p50Us' | 'p90Us' | 'p99Us'>),
    mode,
    amount,
    memoryBefore,
    memoryAfter,
    cpuOut: spent[0] ?? 0,
    cpuIn: spent[1] ?? 0,
  };
}

/** A helper process may end while we look. */
function pssOf(pid: number): number {
  try {
    return memoryOf(pid).pssKiB;
  } catch {
    return 0;
  }
}

/** One mesh with its two pairs of pods, on its own machine beside the other's. */
interface Contender {
  readonly mesh: Mesh;
  /** Pids of the proxies of n1 and n2. */
  readonly ztunnel: readonly number[];
  readonly meshed: string;
  readonly plain: string;
  /** At the start, and after the last measurement of each kind. */
  readonly memory: Map<string, readonly Memory[]>;
  readonly results: Map<string, { mesh: Sample[]; plain: Sample[] }>;
}

async function contender(peer?: string, threads?: string): Promise<Contender> {
  const proxies = peer ?? `our ztunnels${threads === undefined ? '' : `, ${threads} threads each`}`;
  say(`a mesh with ${proxies}: one pair of pods in it, one outside it`);
  const mesh = await startMesh({
    sample: false,
    ...(peer === undefined ? {} : { flags: [`--ztunnel=${peer}`] }),
  });
  meshes.push(mesh);
  if (threads !== undefined) {
    const daemonSet = ['-n', 'istio-system', 'daemonset/ztunnel'];
    await mesh.kubectl('set', 'env', ...daemonSet, `ZTUNNEL_WORKER_THREADS=${threads}`);
    await mesh.kubectl('rollout', 'status', ...daemonSet, '--timeout=50s');
    // The replaced ones may be draining still, or not be replaced yet.
    const isReplaced = (name: string): boolean => {
      const found = mesh.processes().find(({ pid }) => pid === mesh.pidOf('ztunnel', name));
      return found?.environment.ZTUNNEL_WORKER_THREADS === threads;
    };
    await until(() => {
      try {
        return isReplaced('n1') && isReplaced('n2');
      } catch {
        return false;
      }
    }, 'the replaced proxies to end');
  }
  await mesh.apply(peerManifest('bench-mesh', true));
  await mesh.apply(peerManifest('bench-plain', false));
  const meshed = await peerAddress(mesh, 'bench-mesh');
  const plain = await peerAddress(mesh, 'bench-plain');
  const ztunnel = ['n1', 'n2'].map((node) =>
    peer === undefined ? mesh.pidOf('ztunnel', node) : peerPid(mesh, peer, node),
  );
  const memory = new Map([['idle', ztunnel.map(memoryOf)]]);
  return { mesh, ztunnel, meshed, plain, memory, results: new Map() };
}

function peerPid(mesh: Mesh, peer: string, node: string): number {
  const found = mesh
    .processes()
    .find(({ executable, environment }) => executable === peer && environment.NODE_NAME === node);
  if (found === undefined) throw new Error(`${peer} does not run on ${node}`);
  return found.pid;
}

/** `PEER_ZTUNNEL`, links resolved: processes are known by it. */
const PEER = process.env.PEER_ZTUNNEL === undefined ? undefined : realpathSync(process.env.PEER_ZTUNNEL);
const meshes: Mesh[] = [];
try {
  const ours = await contender();
  const contenders =
    PEER === undefined && THREADS === undefined ? [ours] : [ours, await contender(PEER, THREADS)];
  say(`nothing to do for ${IDLE_MS / 1000} s`);
  const clocks = contenders.map(({ ztunnel }) => ztunnel.map((pid) => ({ pid })));
  const before = clocks.map((each) => each.map(cpuSeconds));
  await delay(IDLE_MS);
  const idleCpu = clocks.map((each, index) =>
    each.map((clock, node) => ((cpuSeconds(clock) - before[index]![node]!) / IDLE_MS) * 1000 * 100),
  );
  for (let round = 1; round <= ROUNDS; round++) {
    for (const measurement of MEASUREMENTS.filter(({ name }) => ONLY.some((text) => name.includes(text)))) {
      say(`round ${round} of ${ROUNDS}: ${measurement.name}`);
      // A B, then B A: drift of the machine hits both.
      for (const each of round % 2 === 1 ? contenders : contenders.toReversed()) {
        const held = each.results.get(measurement.name) ?? { mesh: [], plain: [] };
        if (measurement.mode !== 'quiet')
          held.plain.push(await measure(each, 'bench-plain', each.plain, measurement));
        held.mesh.push(await measure(each, 'bench-mesh', each.meshed, measurement));
        each.results.set(measurement.name, held);
        await delay(SETTLE_MS);
        each.memory.set(KINDS[measurement.mode], each.ztunnel.map(memoryOf));
      }
    }
  }
  const wholeMesh = ours.mesh
    .processes()
    .map(({ pid }) => pssOf(pid))
    .reduce((sum, pss) => sum + pss, 0);
  const [run, peer] = contenders.map(({ results, memory }, index) => ({
    results,
    memory,
    idleCpuPercent: idleCpu[index]!,
  }));
  const text = renderResults(
    {
      ...thisMachine(),
      rounds: ROUNDS,
      seconds: SECONDS,
      wholeMeshPssKiB: wholeMesh,
    },
    run as Proxies,
    peer,
    THREADS === undefined ? 'the ztunnel of PEER_ZTUNNEL' : `ours with ${THREADS} threads (“peer”)`,
  );
  console.log(text);
  if (process.env.BENCH_ONLY === undefined && THREADS === undefined && process.argv.includes('--write'))
    writeFileSync(join(projectDir, 'bench/RESULTS.md'), text);
} finally {
  for (const mesh of meshes) await mesh.stop();
}
