// A third node comes, works, dies in two ways, is emptied and goes, while the shop on the others trades on.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { NODES, type Node, PODS, type Pod } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { enterNode } from '#local/machine/enter.ts';
import { projectDir, until } from './harness.ts';
import { sharedMesh } from './lib/shared-mesh.ts';

const run = promisify(execFile);
const theMesh = sharedMesh();
const stateDir = (): string => dirname(theMesh().kubeconfigPath);

async function culvertNode(...args: string[]): Promise<string> {
  const { stdout } = await run(
    join(projectDir, 'bin/culvert'),
    ['node', ...args, '--state-dir', stateDir()],
    {
      timeout: 90_000,
    },
  );
  return stdout;
}

const conditionOf = ({ status }: Node | Pod): string | undefined =>
  status?.conditions?.find(({ type }) => type === 'Ready')?.status;
const podsOnN3 = async (): Promise<Pod[]> =>
  (await theMesh().client.list(PODS, { fieldSelector: 'spec.nodeName=n3' })).items.filter(
    ({ metadata }) => metadata.deletionTimestamp === undefined,
  );
const agentsReady = async (): Promise<boolean> => {
  const agents = (await podsOnN3()).filter(({ metadata }) => metadata.namespace === 'istio-system');
  return agents.length === 2 && agents.every((pod) => conditionOf(pod) === 'True');
};

/** A pod on n3 that asks the shop's web page by name; what it prints. */
async function askTheShop(name: string): Promise<string> {
  const { client, kubectl } = theMesh();
  const script = `fetch('http://web.shop:8080/').then((answer) => console.log(answer.status), (error) => console.log(String(error.cause ?? error)))`;
  await client.create(PODS, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop' },
    spec: {
      nodeName: 'n3',
      restartPolicy: 'Never',
      containers: [{ name: 'main', image: 'local/shell', command: [process.execPath, '-e', script] }],
    },
  });
  await until(
    async () => /Succeeded|Failed/.test((await client.get(PODS, name, 'shop')).status?.phase ?? ''),
    `pod ${name} to end`,
  );
  const text = (await kubectl('logs', '-n', 'shop', name)).trim();
  await client.delete(PODS, name, { namespace: 'shop' });
  return text;
}

const shopAnswers = (name: string): Promise<void> => {
  let attempt = 0;
  return until(
    async () => (await askTheShop(`${name}-${attempt++}`)) === '200',
    'the shop to answer a pod on n3',
    90_000,
  );
};

test('a node is added: its agents land there, its pods use services, names and the mesh', async () => {
  assert.equal(
    await culvertNode('add', 'n3', '--zone', 'z3', '--cpu', '500m', '--memory', '2Gi'),
    'node n3 is ready\n',
  );
  await until(agentsReady, 'ztunnel and the CNI agent on n3');
  assert.match(await culvertNode('list'), /^n3 +Ready +z3 +172\.31\.0\.13 +10\.244\.3\.0\/24 +2$/m);
  await shopAnswers('new');
});

test('a node offers what it was told to have of the machine, and something else when told so', async () => {
  const { client, kubectl } = theMesh();
  const { status } = await client.get(NODES, 'n3');
  assert.equal(status?.allocatable?.cpu, '500m');
  assert.equal(status?.allocatable?.memory, '2Gi');
  await client.create(PODS, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'hungry', namespace: 'default' },
    spec: {
      nodeSelector: { 'kubernetes.io/hostname': 'n3' },
      containers: [
        {
          name: 'main',
          image: 'local/shell',
          args: ['-c', 'exec sleep 1000000'],
          resources: { requests: { cpu: '600m' } },
        },
      ],
      terminationGracePeriodSeconds: 0,
    },
  });
  const hungry = (): Promise<Pod> => client.get(PODS, 'hungry', 'default');
  await until(
    async () =>
      (await hungry()).status?.conditions?.some(({ message }) => /1 Insufficient cpu/.test(message ?? '')) ===
      true,
    'the pod to wait for CPU',
  );
  await kubectl('annotate', 'node', 'n3', 'culvert.local/cpu=1', '--overwrite');
  await until(async () => conditionOf(await hungry()) === 'True', 'the pod to run on the larger node');
  await kubectl('delete', 'pod', 'hungry');
});

test('a killed node keeper is healed: the node starts again with all its pods', async () => {
  const mesh = theMesh();
  const before = (await mesh.client.get(NODES, 'n3')).status?.nodeInfo?.bootID;
  const keeper = enterNode(join(stateDir(), 'run'), 'n3').args[1];
  process.kill(Number(keeper), 'SIGKILL');
  await until(async () => {
    const node = await mesh.client.get(NODES, 'n3');
    return node.status?.nodeInfo?.bootID !== before && conditionOf(node) === 'True';
  }, 'the node to start again');
  await until(
    async () =>
      (await podsOnN3()).every(({ status }) => (status?.containerStatuses?.[0]?.restartCount ?? 0) >= 1) &&
      (await agentsReady()),
    'its pods to run again',
  );
  assert.match(await mesh.kubectl('get', 'events', '--field-selector=involvedObject.name=n3'), /Rebooted/);
  await shopAnswers('healed');
});

test('a node is killed: nothing of it is left, the cluster notices, and it comes back on request', async () => {
  const mesh = theMesh();
  const before = mesh.processes().length;
  await culvertNode('kill', 'n3');
  await until(() => mesh.processes().length < before - 3, 'the processes of the node to end');
  await until(async () => {
    const node = await mesh.client.get(NODES, 'n3');
    return (
      conditionOf(node) === 'Unknown' &&
      (node.spec?.taints ?? []).some(
        ({ key, effect }) => key.endsWith('/unreachable') && effect === 'NoExecute',
      )
    );
  }, 'the node to be called unreachable');
  await until(async () => !(await agentsReady()), 'its pods to be called not ready');
  assert.match(await culvertNode('list'), /^n3 +NotReady,PoweredOff /m);
  assert.equal(await culvertNode('start', 'n3'), 'node n3 is ready\n');
  await until(agentsReady, 'the agents to be back');
  await until(
    async () => ((await mesh.client.get(NODES, 'n3')).spec?.taints ?? []).length === 0,
    'the taints to go',
  );
  await shopAnswers('back');
});

test('a node is drained with kubectl and with culvert, then removed with all that was there', async () => {
  const mesh = theMesh();
  await mesh.apply(`
apiVersion: apps/v1
kind: Deployment
metadata: { name: movable, namespace: default }
spec:
  replicas: 3
  selector: { matchLabels: { app: movable } }
  template:
    metadata: { labels: { app: movable } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: main, image: local/shell, args: [-c, exec sleep 1000000] }]
`);
  await mesh.kubectl('rollout', 'status', 'deployment/movable', '--timeout=60s');
  const movable = async (): Promise<number> =>
    (await podsOnN3()).filter(({ metadata }) => metadata.labels?.app === 'movable').length;
  assert.equal(await movable(), 1);
  assert.match(await mesh.kubectl('drain', 'n3', '--ignore-daemonsets', '--timeout=60s'), /node\/n3 drained/);
  assert.equal(await movable(), 0);
  await culvertNode('uncordon', 'n3');
  await mesh.kubectl('cordon', 'n1');
  await mesh.kubectl('rollout', 'restart', 'deployment/movable');
  await mesh.kubectl('rollout', 'status', 'deployment/movable', '--timeout=60s');
  assert.ok((await movable()) > 0);
  assert.match(await culvertNode('drain', 'n3'), /node n3 drained/);
  assert.equal(await movable(), 0);

  await culvertNode('remove', 'n3');
  await until(async () => (await podsOnN3()).length === 0, 'the pods of the node to be gone');
  await assert.rejects(mesh.client.get(NODES, 'n3'), isNotFound);
  // The machine takes the node apart when its object is gone.
  await until(
    async () => !/10\.244\.3\./.test(await mesh.inNode('n2', 'ip', 'route')),
    'the route to the node to be gone',
  );
  await until(() => !existsSync(join(stateDir(), 'run/nodes/n3.json')), 'the record of the node to be gone');
  await assert.rejects(culvertNode('cordon', 'n9'), /there is no node "n9"; the nodes are n1, n2/);
});
