// The mesh as people run it, with a server on node n2 and clients on node n1 whose traffic is told twice a second.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { PODS, type Pod } from '#k8s/objects.ts';
import { type Mesh, projectDir, startMesh, until } from '../e2e/harness.ts';
import type { Tick } from './load.ts';

export const NAMESPACE = 'endurance';

export interface Client {
  /** What it has told so far. */
  readonly ticks: readonly Tick[];
  readonly last: Tick;
  end(): Promise<void>;
}

export interface Rig {
  readonly mesh: Mesh;
  /** Runs load.ts in a pod of its own; resolves when the first traffic is told. */
  client(...args: string[]): Promise<Client>;
  /** A command in the network namespace around the nodes, where their cables end. */
  onMachine(...command: string[]): void;
  stop(): Promise<void>;
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export function podManifest(name: string, node: string, command: readonly string[], more = ''): string {
  return `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${NAMESPACE}, labels: { app: ${name} } }
spec:
  nodeSelector: { kubernetes.io/hostname: ${node} }
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: local/shell
      command: ${JSON.stringify(command)}
${more}`;
}

const NAMESPACE_MANIFEST = `
apiVersion: v1
kind: Namespace
metadata: { name: ${NAMESPACE}, labels: { istio.io/dataplane-mode: ambient } }
`;

export async function startRig(): Promise<Rig> {
  const mesh = await startMesh({ sample: false });
  try {
    await mesh.apply(NAMESPACE_MANIFEST);
    const server = [process.execPath, join(projectDir, 'bench/peer.ts')];
    const probe = '      readinessProbe: { tcpSocket: { port: 9000 }, periodSeconds: 1 }\n';
    await mesh.apply(podManifest('server', 'n2', server, probe));
    const address = await addressOf(mesh, 'server');
    let count = 0;
    return {
      mesh,
      client: (...args) => startClient(mesh, `client-${++count}`, [address, ...args]),
      onMachine: (...command) => {
        const machine = ['nsenter', '-t', String(mesh.pidOf('local')), '-n', '--', ...command];
        execFileSync(machine[0]!, machine.slice(1), { stdio: 'pipe' });
      },
      stop: () => mesh.stop(),
    };
  } catch (error) {
    await mesh.stop();
    throw error;
  }
}

async function addressOf(mesh: Mesh, name: string): Promise<string> {
  let pod: Pod | undefined;
  await until(async () => {
    pod = await mesh.client.get(PODS, name, NAMESPACE);
    return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
  }, `${name} to be ready`);
  return pod?.status?.podIP ?? '';
}

async function startClient(mesh: Mesh, name: string, args: readonly string[]): Promise<Client> {
  const command = [process.execPath, join(projectDir, 'test/endurance/load.ts'), ...args];
  await mesh.apply(podManifest(name, 'n1', command));
  await until(async () => {
    const pod: Pod = await mesh.client.get(PODS, name, NAMESPACE);
    return pod.status?.phase === 'Running';
  }, `${name} to run`);
  const ticks: Tick[] = [];
  let isOver = false;
  const followed = follow(mesh, name, ticks).catch((error: unknown) => {
    if (!isOver) throw error;
  });
  followed.catch(() => {}); // heard at the end
  await until(() => ticks.length > 0, `${name} to tell of its traffic`);
  return {
    ticks,
    get last() {
      return ticks.at(-1)!;
    },
    async end() {
      isOver = true;
      await mesh.client.delete(PODS, name, { namespace: NAMESPACE, gracePeriodSeconds: 0 });
      await followed;
    },
  };
}

async function follow(mesh: Mesh, name: string, ticks: Tick[]): Promise<void> {
  let held = '';
  const path = `/api/v1/namespaces/${NAMESPACE}/pods/${name}/log?follow=true`;
  for await (const piece of mesh.client.stream(path)) {
    const lines = (held + piece).split('\n');
    held = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('{')) ticks.push(JSON.parse(line) as Tick);
  }
}
