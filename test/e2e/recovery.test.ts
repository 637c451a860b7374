// Every program is killed by pid while traffic flows, and comes back by itself; nothing that was configured is lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AUTHORIZATION_POLICIES, type Condition, LEASES, PODS } from '#k8s/objects.ts';
import { huntLeaks } from '../endurance/leaks.ts';
import { now, startsWith, waitForRecord } from './evidence/evidence.ts';
import { type Mesh, until } from './harness.ts';
import { killAndReturn, returned } from './lib/kill.ts';
import { sharedMesh } from './lib/shared-mesh.ts';
import { crossesNodes } from './lib/xds-seams.ts';

const theMesh = sharedMesh();

/** A page and an order, over mTLS, that began after now. */
async function trafficFlows(mesh: Mesh): Promise<void> {
  const since = now();
  await crossesNodes(mesh, 'n2', 'catalog', since);
  await crossesNodes(mesh, 'n1', 'ledger', since);
}

test('ztunnel killed: back by itself, traffic flows again', async () => {
  await killAndReturn(theMesh(), 'ztunnel', 'n2');
  await trafficFlows(theMesh());
});

test('the control plane killed: traffic goes on meanwhile, and configuration is obeyed after it is back', async () => {
  const mesh = theMesh();
  const pid = mesh.pidOf('control');
  process.kill(pid, 'SIGKILL');
  await trafficFlows(mesh);
  await returned(mesh, 'control', pid);
  const since = now();
  await mesh.apply(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: after-restart, namespace: shop }
spec:
  selector: { matchLabels: { app: catalog } }
  action: DENY
  rules: [{}]
`);
  const refused = await waitForRecord(
    mesh,
    'n2',
    since,
    'a refused page',
    (fields) =>
      startsWith(fields.get('dst.workload'), 'catalog') &&
      /shop\/after-restart/.test(fields.get('error') ?? ''),
  );
  assert.ok(refused);
  await mesh.client.delete(AUTHORIZATION_POLICIES, 'after-restart', { namespace: 'shop' });
  await trafficFlows(mesh);
});

test('the CNI agent killed: traffic goes on, and the agent is back', async () => {
  await killAndReturn(theMesh(), 'cni', 'n1');
  await trafficFlows(theMesh());
});

test('the API server and kubelets killed: pods live on, nothing is lost', async () => {
  const mesh = theMesh();
  await mesh.apply(
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, namespace: default}\ndata: {key: value}\n',
  );
  const web = mesh.pidOf('shop-web');
  await killAndReturn(mesh, 'local');
  await until(
    () =>
      mesh.kubectl('get', 'configmap', 'kept', '-n', 'default', '-o', 'jsonpath={.data.key}').then(
        (text) => text === 'value',
        () => false,
      ),
    'the API to answer',
  );
  assert.equal(mesh.pidOf('shop-web'), web, 'the pod was not restarted');
  await trafficFlows(mesh);
});

test('a service of the shop killed: restarted in its pod, traffic flows again', async () => {
  const mesh = theMesh();
  await killAndReturn(mesh, 'shop-catalog');
  await until(async () => {
    const { items } = await mesh.client.list(PODS, { namespace: 'shop', labelSelector: 'app=catalog' });
    return items[0]?.status?.containerStatuses?.[0]?.restartCount === 1;
  }, 'the restart to be counted');
  await trafficFlows(mesh);
});

test('two control planes, the one that writes killed: the other writes on, proxies and traffic notice nothing', async () => {
  const mesh = theMesh();
  const holder = async (): Promise<string> =>
    (await mesh.client.get(LEASES, 'istio-status-leader', 'istio-system')).spec?.holderIdentity ?? '';
  const ready = async (): Promise<string[]> => {
    const { items } = await mesh.client.list(PODS, {
      namespace: 'istio-system',
      labelSelector: 'app=istiod',
    });
    return items
      .filter(({ status }) =>
        status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'),
      )
      .map(({ metadata }) => metadata.name);
  };
  await mesh.kubectl('scale', '-n', 'istio-system', 'deployment/istiod', '--replicas=2');
  await until(async () => (await ready()).length === 2, 'both replicas to be ready');
  const leader = await holder();
  // A second replica that comes back at once would lead on under its name: that is the other test's matter.
  const killed = mesh
    .processes()
    .filter(({ executable, environment }) => executable.endsWith('/node') && environment.POD_NAME === leader);
  assert.ok(killed.length > 0, leader);
  for (const { pid } of killed) process.kill(pid, 'SIGKILL');
  await mesh.client.delete(PODS, leader, { namespace: 'istio-system', gracePeriodSeconds: 0 });
  await trafficFlows(mesh);
  await until(async () => !['', leader].includes(await holder()), 'another leader');
  await mesh.apply(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: by-the-other, namespace: shop }
spec:
  selector: { matchLabels: { app: nobody } }
  rules: [{ to: [{ operation: { methods: [GET] } }] }]
`);
  await until(async () => {
    const { status } = await mesh.client.get(AUTHORIZATION_POLICIES, 'by-the-other', 'shop');
    const [condition] = (status?.conditions ?? []) as Condition[];
    return condition?.type === 'ZtunnelAccepted' && condition.reason === 'UnsupportedValue';
  }, 'its status');
  await mesh.client.delete(AUTHORIZATION_POLICIES, 'by-the-other', { namespace: 'shop' });
  await trafficFlows(mesh);
  await mesh.kubectl('scale', '-n', 'istio-system', 'deployment/istiod', '--replicas=1');
});

test('a round of the leak hunt: nothing that enrolled pods say is readable between the nodes', {
  skip: process.getuid?.() !== 0 && "not run: an ordinary user may not read the machine's wire",
}, async (context) => {
  const mesh = theMesh();
  // Connections that a pod leaves behind are cut while they speak.
  await mesh.kubectl(
    ...['set', 'env', '-n', 'istio-system', 'daemonset/istio-cni-node', 'CULVERT_UNENROL_DRAIN_SECONDS=1'],
  );
  await mesh.kubectl('rollout', 'status', '-n', 'istio-system', 'daemonset/istio-cni-node');
  const result = await huntLeaks(mesh, {
    cycles: 11,
    limitMs: 120_000,
    say: (text) => context.diagnostic(text),
  });
  assert.deepEqual(result.leaks, []);
  assert.deepEqual(result.problems, []);
  assert.equal(result.cycles, 11);
  assert.ok(result.plainPackets > 0, 'the capture shows what a pod outside the mesh says');
});
