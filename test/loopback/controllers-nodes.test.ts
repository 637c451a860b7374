// Nodes that fall silent, are drained or taken away, as the controllers and the eviction of the API server handle them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeClient } from '#k8s/client.ts';
import {
  DEPLOYMENTS,
  type KubeObject,
  LEASES,
  NODES,
  type Node,
  POD_DISRUPTION_BUDGETS,
  PODS,
  type Pod,
  type PodDisruptionBudget,
} from '#k8s/objects.ts';
import { apiStatusOf } from '#k8s/status.ts';
import { testEachKubectl } from '../lib/kubectls.ts';
import { until } from '../lib/until.ts';
import { deployment, inShop, openCluster, rolledOut, startKubelet } from './controllers-rig.ts';

const taintKeys = ({ spec }: Node): string[] =>
  (spec?.taints ?? []).map(({ key, effect }) => `${key}:${effect}`);
const readyOf = ({ status }: Node | Pod): string | undefined =>
  status?.conditions?.find(({ type }) => type === 'Ready')?.status;
const podsOn = async (client: KubeClient, node: string): Promise<Pod[]> =>
  (await client.list(PODS, inShop)).items.filter(
    ({ spec, metadata }) => spec.nodeName === node && metadata.deletionTimestamp === undefined,
  );

async function beat(client: KubeClient, node: string): Promise<void> {
  const lease: KubeObject & { spec: unknown } = {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: node, namespace: 'kube-node-lease' },
    spec: { renewTime: new Date().toISOString().replace('Z', '000Z') },
  };
  await client.patch(LEASES, node, 'apply', lease, { namespace: 'kube-node-lease', fieldManager: 'test' });
}

test('a silent node: unreachable, its pods not ready, then replaced elsewhere; its word brings it back', async (t) => {
  const { client } = await openCluster(t, { nodeGraceMs: 1500 });
  startKubelet(t, client);
  const heart = setInterval(() => void beat(client, 'n1').catch(() => {}), 300);
  t.after(() => clearInterval(heart));
  await client.create(DEPLOYMENTS, {
    ...deployment('web', 2),
    spec: {
      ...deployment('web', 2).spec,
      template: {
        metadata: { labels: { app: 'web' } },
        spec: {
          containers: [{ name: 'main', image: 'local/web' }],
          tolerations: [
            {
              key: 'node.kubernetes.io/unreachable',
              operator: 'Exists',
              effect: 'NoExecute',
              tolerationSeconds: 1,
            },
          ],
        },
      },
    },
  });
  const silent = await until('n2 to be called unreachable', async () => {
    const node = await client.get(NODES, 'n2');
    return readyOf(node) === 'Unknown' && taintKeys(node).length === 2 && node;
  });
  assert.deepEqual(taintKeys(silent).sort(), [
    'node.kubernetes.io/unreachable:NoExecute',
    'node.kubernetes.io/unreachable:NoSchedule',
  ]);
  await until('both pods to run on n1', async () => {
    const here = await podsOn(client, 'n1');
    return here.length === 2 && (await podsOn(client, 'n2')).length === 0;
  });
  assert.equal(readyOf(await client.get(NODES, 'n1')), 'True');

  await beat(client, 'n2');
  await client.patch(
    NODES,
    'n2',
    'merge',
    { status: { conditions: [{ type: 'Ready', status: 'True' }] } },
    { subresource: 'status' },
  );
  await until('the taints to go', async () => taintKeys(await client.get(NODES, 'n2')).length === 0);
});

test('a pod that asks for more than any node has left waits, says so, and is placed when there is room', async (t) => {
  const { client, kubectl } = await openCluster(t);
  startKubelet(t, client);
  const give = (name: string, cpu: string): Promise<Node> =>
    client.patch(
      NODES,
      name,
      'merge',
      { status: { allocatable: { cpu, memory: '1Gi' } } },
      { subresource: 'status' },
    );
  await Promise.all([give('n1', '1'), give('n2', '1')]);
  const { spec, ...web } = deployment('web', 3);
  const containers = [{ name: 'main', image: 'local/web', resources: { requests: { cpu: '600m' } } }];
  await client.create(DEPLOYMENTS, {
    ...web,
    spec: { ...spec, template: { metadata: { labels: { app: 'web' } }, spec: { containers } } },
  });
  const why = '0/2 nodes are available: 2 Insufficient cpu.';
  const waiting = await until('the third pod to say why it waits', async () =>
    (await client.list(PODS, inShop)).items.find(({ status }) =>
      status?.conditions?.some(({ type, message }) => type === 'PodScheduled' && message === why),
    ),
  );
  const events = await kubectl('get', 'events', '-n', 'shop', '--field-selector', 'reason=FailedScheduling');
  assert.ok(events.includes(waiting.metadata.name) && events.includes(why), events);
  await give('n2', '1200m');
  await rolledOut(client, 'web');
  assert.equal((await podsOn(client, 'n2')).length, 2);
});

test('a pod whose node is removed is given up', async (t) => {
  const { client } = await openCluster(t);
  startKubelet(t, client);
  await client.create(DEPLOYMENTS, deployment('web', 2));
  await rolledOut(client, 'web');
  assert.equal((await podsOn(client, 'n2')).length, 1);
  await client.delete(NODES, 'n2');
  await until('the replacement on n1', async () => (await podsOn(client, 'n1')).length === 2);
  assert.equal((await podsOn(client, 'n2')).length, 0);
});

test('kubectl cordon, drain and uncordon; a disruption budget is minded', async (t) => {
  const { client, kubectl } = await openCluster(t);
  startKubelet(t, client);
  await client.create(DEPLOYMENTS, deployment('web', 4));
  await rolledOut(client, 'web');
  const budget: PodDisruptionBudget = {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: { name: 'web', namespace: 'shop' },
    spec: { minAvailable: 3, selector: { matchLabels: { app: 'web' } } },
  };
  await client.create(POD_DISRUPTION_BUDGETS, budget);
  await until('the budget to be counted', async () => {
    const { status } = await client.get(POD_DISRUPTION_BUDGETS, 'web', 'shop');
    return status?.disruptionsAllowed === 1 && status.currentHealthy === 4 && status.desiredHealthy === 3;
  });
  assert.match(
    await kubectl('get', 'pdb', '-n', 'shop'),
    /NAME +MIN AVAILABLE +MAX UNAVAILABLE +ALLOWED DISRUPTIONS +AGE\nweb +3 +N\/A +1 /,
  );

  await kubectl('cordon', 'n2');
  await until('the taint of a cordoned node', async () =>
    taintKeys(await client.get(NODES, 'n2')).includes('node.kubernetes.io/unschedulable:NoSchedule'),
  );
  const said = await kubectl('drain', 'n2', '--ignore-daemonsets', '--timeout=50s');
  assert.match(said, /evicting pod shop\/web-/);
  assert.match(said, /node\/n2 drained/);
  assert.deepEqual(await podsOn(client, 'n2'), []);
  await rolledOut(client, 'web');

  // With as many needed as there are, nothing may go.
  await client.patch(POD_DISRUPTION_BUDGETS, 'web', 'merge', { spec: { minAvailable: 4 } }, inShop);
  const [pod] = await podsOn(client, 'n1');
  assert.ok(pod);
  const { name } = pod.metadata;
  await until('the new count', async () => {
    const { status, metadata } = await client.get(POD_DISRUPTION_BUDGETS, 'web', 'shop');
    return status?.observedGeneration === metadata.generation && status?.currentHealthy === 4;
  });
  await assert.rejects(
    client.request('POST', `/api/v1/namespaces/shop/pods/${name}/eviction`, {
      apiVersion: 'policy/v1',
      kind: 'Eviction',
      metadata: { name, namespace: 'shop' },
    }),
    (error) => {
      const { status, reason } = apiStatusOf(error) ?? {};
      assert.deepEqual({ status, reason }, { status: 429, reason: 'TooManyRequests' });
      return /Cannot evict pod as it would violate the pod's disruption budget/.test(
        (error as Error).message,
      );
    },
  );
  await kubectl('uncordon', 'n2');
  await until('the taint to go', async () => taintKeys(await client.get(NODES, 'n2')).length === 0);
});

test('kubectl taint: NoExecute moves the pods that do not tolerate it', async (t) => {
  const { client, kubectl } = await openCluster(t);
  startKubelet(t, client);
  await client.create(DEPLOYMENTS, deployment('web', 2));
  await rolledOut(client, 'web');
  await kubectl('taint', 'nodes', 'n2', 'broken=yes:NoExecute');
  await until('both pods on n1', async () => (await podsOn(client, 'n1')).length === 2);
  await kubectl('taint', 'nodes', 'n2', 'broken-');
  assert.deepEqual(taintKeys(await client.get(NODES, 'n2')), []);
});

test('DisruptionTarget: a pod that is evicted, tainted away or without its node says so before it goes', async (t) => {
  const { client, kubectl } = await openCluster(t);
  const make = (name: string, nodeName: string): Promise<Pod> =>
    client.create(
      PODS,
      {
        apiVersion: 'v1',
        kind: 'Pod',
        // Kept by the finalizer, or it could not be looked at.
        metadata: { name, namespace: 'shop', finalizers: ['example.io/look'] },
        spec: { nodeName, containers: [{ name: 'c', image: 'local/x' }] },
      },
      'shop',
    );
  const cause = async (name: string): Promise<string | undefined> => {
    const { metadata, status } = await client.get(PODS, name, 'shop');
    const found = status?.conditions?.find(({ type }) => type === 'DisruptionTarget');
    return metadata.deletionTimestamp === undefined ? undefined : `${found?.status} ${found?.reason}`;
  };
  const becomes = (name: string, wanted: string): Promise<unknown> =>
    until(`${name}: ${wanted}`, async () => (await cause(name)) === wanted);
  await make('evicted', 'n1');
  await make('plain', 'n1');
  await make('tainted', 'n2');
  await make('orphan', 'n2');
  await client.request('POST', '/api/v1/namespaces/shop/pods/evicted/eviction', {
    apiVersion: 'policy/v1',
    kind: 'Eviction',
    metadata: { name: 'evicted', namespace: 'shop' },
  });
  await becomes('evicted', 'True EvictionByEvictionAPI');
  await client.delete(PODS, 'plain', inShop);
  await becomes('plain', 'undefined undefined');
  await client.patch(PODS, 'orphan', 'merge', { spec: { tolerations: [{ operator: 'Exists' }] } }, inShop);
  await kubectl('taint', 'nodes', 'n2', 'broken=yes:NoExecute');
  await becomes('tainted', 'True DeletionByTaintManager');
  await client.delete(NODES, 'n2');
  await becomes('orphan', 'True DeletionByPodGC');
});

testEachKubectl('drains a node', async (kubectl, t) => {
  const cluster = await openCluster(t, { kubectlPath: kubectl.path });
  startKubelet(t, cluster.client);
  await cluster.client.create(DEPLOYMENTS, deployment('web', 2));
  await rolledOut(cluster.client, 'web');
  assert.match(
    await cluster.kubectl('drain', 'n2', '--ignore-daemonsets', '--timeout=50s'),
    /n2 (drained|evicted)/,
  );
  assert.deepEqual(await podsOn(cluster.client, 'n2'), []);
});
