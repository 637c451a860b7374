// How long it takes to put running pods into the mesh and out of it, and what that costs those who talk to them:
// `npm run bench -- enrol`, with `--write` also RESULTS-ENROL.md. The mesh is `culvert up`'s; times are from the API server's answer to the label until the
// agents have logged the last pod.
//
//   BENCH_PODS=250   pods enrolled at once      BENCH_TURNS=10   single pods, and turns under the probe

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEPLOYMENTS, NAMESPACES, PODS, type Pod } from '#k8s/objects.ts';
import { type Mesh, projectDir, startMesh, until } from '../test/e2e/harness.ts';
import { describeMachine, thisMachine } from './lib/machine.ts';
import { cpuSecondsWithTools } from './lib/process.ts';

const CROWD = Number(process.env.BENCH_PODS ?? '250');
const TURNS = Number(process.env.BENCH_TURNS ?? '10');
const NODES = 4;
const LABEL = 'istio.io/dataplane-mode';
const PROBES_PER_SECOND = 1000;

const say = (text: string): void => console.error(`bench: ${text}`);
const json = JSON.stringify;

/** Counts what the agents of all nodes log about pods of a namespace. */
class AgentLog {
  #added = 0;
  #removed = 0;
  #waiting: (() => void) | undefined;

  async follow(mesh: Mesh): Promise<void> {
    const { items } = await mesh.client.list<Pod>(PODS, {
      namespace: 'istio-system',
      labelSelector: 'k8s-app=istio-cni-node',
    });
    for (const { metadata } of items) void this.#read(mesh, metadata.name);
  }

  async #read(mesh: Mesh, pod: string): Promise<void> {
    let rest = '';
    const path = `/api/v1/namespaces/istio-system/pods/${pod}/log?follow=true&sinceSeconds=1`;
    try {
      for await (const piece of mesh.client.stream(path)) {
        const lines = (rest + piece).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (line.includes('pod added to the mesh')) this.#added += 1;
          if (line.includes('pod removed from the mesh')) this.#removed += 1;
        }
        this.#waiting?.();
      }
    } catch {
      // The mesh has ended.
    }
  }

  /** Milliseconds from the answer to `change` until so many pods more are in (or out). */
  async time(what: 'added' | 'removed', pods: number, change: () => Promise<unknown>): Promise<number> {
    const count = (): number => (what === 'added' ? this.#added : this.#removed);
    const goal = count() + pods;
    await change();
    const startedAt = performance.now();
    while (count() < goal) {
      const isLate = await new Promise<boolean>((resolve) => {
        const timer = setTimeout(resolve, 120_000, true);
        this.#waiting = () => {
          clearTimeout(timer);
          resolve(false);
        };
      });
      if (isLate) throw new Error(`${goal - count()} pods were not ${what} within two minutes`);
    }
    return performance.now() - startedAt;
  }
}

const label = (mesh: Mesh, namespace: string, mode: 'ambient' | null): Promise<unknown> =>
  mesh.client.patch(NAMESPACES, namespace, 'merge', { metadata: { labels: { [LABEL]: mode } } });

const deployment = (
  namespace: string,
  name: string,
  replicas: number,
  command: string[],
  node = '',
): string => `
apiVersion: v1
kind: Namespace
metadata: { name: ${namespace} }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: ${name}, namespace: ${namespace} }
spec:
  replicas: ${replicas}
  selector: { matchLabels: { app: ${name} } }
  template:
    metadata: { labels: { app: ${name} } }
    spec:
      ${node === '' ? '' : `nodeSelector: { kubernetes.io/hostname: ${node} }`}
      terminationGracePeriodSeconds: 1
      containers: [{ name: main, image: local/shell, command: ${json(command)} }]
`;

async function ready(mesh: Mesh, namespace: string, name: string, replicas: number): Promise<void> {
  await until(
    async () => (await mesh.client.get(DEPLOYMENTS, name, namespace)).status?.readyReplicas === replicas,
    `${replicas} pods of ${namespace}/${name}`,
    300_000,
  );
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
const most = (values: readonly number[]): number => Math.max(...values);
interface Row {
  readonly what: string;
  readonly required: string;
  readonly wished: string;
  readonly figure: string;
}
const rows: Row[] = [];
const row = (what: string, figure: string, required = '', wished = ''): void => {
  say(`${what}: ${figure}`);
  rows.push({ what, required, wished, figure });
};
const ms = (values: readonly number[]): string =>
  `${Math.round(median(values))} ms (most ${Math.round(most(values))})`;

async function singles(mesh: Mesh, log: AgentLog): Promise<void> {
  await mesh.apply(deployment('single', 'one', 1, ['sleep', 'infinity']));
  await ready(mesh, 'single', 'one', 1);
  const [added, removed]: [number[], number[]] = [[], []];
  for (let turn = 0; turn < TURNS; turn++) {
    added.push(await log.time('added', 1, () => label(mesh, 'single', 'ambient')));
    removed.push(await log.time('removed', 1, () => label(mesh, 'single', null)));
  }
  row('one running pod into the mesh', ms(added), '100 ms', '50 ms');
  row('one running pod out of the mesh', ms(removed), '100 ms', '50 ms');
}

async function crowd(mesh: Mesh, log: AgentLog): Promise<void> {
  say(`starting ${CROWD} pods on ${NODES} nodes`);
  await mesh.apply(deployment('crowd', 'many', CROWD, ['sleep', 'infinity']));
  await ready(mesh, 'crowd', 'many', CROWD);
  const agents = Array.from({ length: NODES }, (_, index) => ({ pid: mesh.pidOf('cni', `n${index + 1}`) }));
  const cpu = (): number => agents.reduce((sum, agent) => sum + cpuSecondsWithTools(agent), 0);
  for (const [way, what, mode] of [
    ['into', 'added', 'ambient'],
    ['out of', 'removed', null],
  ] as const) {
    const before = cpu();
    const tookMs = await log.time(what, CROWD, () => label(mesh, 'crowd', mode));
    const cpuMs = ((cpu() - before) / CROWD) * 1000;
    row(
      `${CROWD} running pods ${way} the mesh, on ${NODES} nodes`,
      `${(tookMs / 1000).toFixed(1)} s`,
      '10 s',
      '5 s',
    );
    row('its CPU, agent and its tools, for each pod', `${cpuMs.toFixed(0)} ms`);
  }
  await mesh.client.delete(NAMESPACES, 'crowd');
}

/** New connections at a fixed rate, while one of the ends goes into the mesh and out of it. */
async function probed(mesh: Mesh, log: AgentLog): Promise<void> {
  const node = process.execPath;
  await mesh.apply(deployment('server', 'peer', 1, [node, join(projectDir, 'bench/peer.ts')], 'n2'));
  await ready(mesh, 'server', 'peer', 1);
  const { items } = await mesh.client.list<Pod>(PODS, { namespace: 'server' });
  const address = items[0]?.status?.podIP ?? '';
  const prober = [node, join(projectDir, 'bench/prober.ts'), address, String(PROBES_PER_SECOND)];
  await mesh.apply(deployment('client', 'prober', 1, prober, 'n1'));
  await ready(mesh, 'client', 'prober', 1);
  const [pod] = (await mesh.client.list<Pod>(PODS, { namespace: 'client' })).items;
  const count = async (): Promise<{ done: number; failed: number; errors: Record<string, number> }> => {
    const path = `/api/v1/namespaces/client/pods/${pod?.metadata.name}/log?tailLines=1`;
    let text = '';
    for await (const piece of mesh.client.stream(path)) text += piece;
    return JSON.parse(text);
  };
  const rest = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1500));
  await rest();
  for (const end of ['server', 'client']) {
    const before = await count();
    for (let turn = 0; turn < TURNS; turn++) {
      await log.time('added', 1, () => label(mesh, end, 'ambient'));
      await rest();
      await log.time('removed', 1, () => label(mesh, end, null));
      await rest();
    }
    await rest();
    const after = await count();
    row(
      `${TURNS} times into the mesh and out of it: the ${end}, under ${PROBES_PER_SECOND} new connections/s`,
      `${after.failed - before.failed} failed of ${after.done - before.done} ${after.failed > before.failed ? json(after.errors) : ''}`.trim(),
      '0 failed',
    );
  }
}

const mesh = await startMesh({ sample: false, flags: ['--nodes', String(NODES)] });
try {
  const log = new AgentLog();
  await log.follow(mesh);
  for (const part of [singles, probed, crowd])
    if (part.name.includes(process.env.BENCH_ONLY ?? '')) await part(mesh, log);
  const table = rows.map(
    ({ what, required, wished, figure }) => `| ${what} | ${required} | ${wished} | ${figure} |\n`,
  );
  const text = `# Enrolment

Made by \`npm run bench -- enrol --write\`; the method stands in [README.md](README.md).
${describeMachine(thisMachine())}, ${NODES} nodes on them, ${TURNS} turns; medians.

| what | required | wished | measured |
|---|---|---|---|
${table.join('')}`;
  console.log(text);
  if (process.env.BENCH_ONLY === undefined && process.argv.includes('--write'))
    writeFileSync(join(projectDir, 'bench/RESULTS-ENROL.md'), text);
} finally {
  await mesh.stop();
}
