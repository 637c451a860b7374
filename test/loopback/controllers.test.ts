// Every controller together, against the embedded API server over real TLS, with a stand-in for the kubelet.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CONFIG_MAPS,
  type ConfigMap,
  DAEMON_SETS,
  type DaemonSet,
  DEPLOYMENTS,
  ENDPOINT_SLICES,
  ENDPOINTS,
  NAMESPACES,
  NODES,
  PODS,
  type Pod,
  REPLICA_SETS,
  SERVICE_ACCOUNTS,
  SERVICES,
} from '#k8s/objects.ts';
import { CLUSTER_ROLES, type ClusterRole } from '#k8s/rbac.ts';
import { until } from '../lib/until.ts';
import {
  addNode,
  BROKEN_IMAGE,
  deployment,
  inShop,
  names,
  openCluster,
  rolledOut,
  startKubelet,
} from './controllers-rig.ts';

test('namespaces have an account and the root certificate, get them back, and can be deleted with all they hold', async (t) => {
  const { client, caPem } = await openCluster(t);
  startKubelet(t, client);
  const rootCa = (): Promise<ConfigMap | undefined> =>
    client.get(CONFIG_MAPS, 'kube-root-ca.crt', 'shop').catch(() => undefined);
  await until('the root certificate', async () => (await rootCa())?.data?.['ca.crt'] === caPem);
  const account = await until('the default account', () =>
    client.get(SERVICE_ACCOUNTS, 'default', 'shop').catch(() => undefined),
  );
  await client.delete(SERVICE_ACCOUNTS, 'default', inShop);
  await until('a new default account', async () => {
    const again = await client.get(SERVICE_ACCOUNTS, 'default', 'shop').catch(() => undefined);
    return again !== undefined && again.metadata.uid !== account.metadata.uid;
  });

  await client.create(DEPLOYMENTS, deployment('web', 2));
  await rolledOut(client, 'web');
  await client.delete(NAMESPACES, 'shop');
  await until('the end of the namespace', async () => {
    const { items } = await client.list(NAMESPACES);
    return !names(items).includes('shop');
  });
  for (const resource of [PODS, REPLICA_SETS, DEPLOYMENTS, CONFIG_MAPS, SERVICE_ACCOUNTS])
    assert.deepEqual(names((await client.list(resource, inShop)).items), []);
});

test('a Deployment: pods on both nodes, scaling, a rolling update within its bounds, undo, deletion', async (t) => {
  const { client } = await openCluster(t);
  const seen = startKubelet(t, client);
  await client.create(DEPLOYMENTS, deployment('web', 4));
  const first = await rolledOut(client, 'web');
  assert.equal(first.metadata.annotations?.['deployment.kubernetes.io/revision'], '1');
  const pods = (await client.list(PODS, inShop)).items;
  assert.deepEqual(pods.map(({ spec }) => spec.nodeName).sort(), ['n1', 'n1', 'n2', 'n2']);
  const [set] = (await client.list(REPLICA_SETS, inShop)).items;
  assert.ok(pods.every(({ metadata }) => metadata.name.startsWith(`${set?.metadata.name}-`)));

  seen.fewestReady = Number.POSITIVE_INFINITY;
  seen.mostPods = 0;
  const next = { spec: { template: { metadata: { annotations: { release: '2' } } } } };
  await client.patch(DEPLOYMENTS, 'web', 'merge', next, inShop);
  const second = await rolledOut(client, 'web');
  assert.equal(second.metadata.annotations?.['deployment.kubernetes.io/revision'], '2');
  await until('the end of the old pods', async () => {
    const { items } = await client.list(PODS, inShop);
    return items.length === 4 && items.every(({ metadata }) => metadata.annotations?.release === '2');
  });
  // 25 % of 4, both ways.
  assert.ok(seen.fewestReady >= 3, `only ${seen.fewestReady} of 4 were ready during the update`);
  assert.ok(seen.mostPods <= 5, `${seen.mostPods} pods during the update`);
  const conditions = second.status.conditions as { type: string; status: string; reason: string }[];
  assert.deepEqual(
    conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`),
    ['Available=True MinimumReplicasAvailable', 'Progressing=True NewReplicaSetAvailable'],
  );

  // Back to the first template: its ReplicaSet is used again.
  await client.patch(
    DEPLOYMENTS,
    'web',
    'merge',
    { spec: { template: { metadata: { annotations: null } } } },
    inShop,
  );
  const third = await rolledOut(client, 'web');
  assert.equal(third.metadata.annotations?.['deployment.kubernetes.io/revision'], '3');
  assert.equal((await client.list(REPLICA_SETS, inShop)).items.length, 2);

  await client.patch(DEPLOYMENTS, 'web', 'merge', { spec: { replicas: 1 } }, inShop);
  await rolledOut(client, 'web');
  await client.delete(DEPLOYMENTS, 'web', { ...inShop, propagation: 'Background' });
  await until('the end of what it owned', async () => {
    const left = await Promise.all([client.list(REPLICA_SETS, inShop), client.list(PODS, inShop)]);
    return left.every(({ items }) => items.length === 0);
  });
});

test('a Deployment whose new template never becomes ready keeps the old pods; Recreate never runs both', async (t) => {
  const { client } = await openCluster(t);
  const seen = startKubelet(t, client);
  await client.create(DEPLOYMENTS, deployment('web', 2));
  await rolledOut(client, 'web');
  seen.fewestReady = Number.POSITIVE_INFINITY;
  const broken = deployment('web', 2, BROKEN_IMAGE).spec;
  await client.patch(DEPLOYMENTS, 'web', 'merge', { spec: broken }, inShop);
  await until('a broken pod beside the good ones', async () => {
    const { status = {} } = await client.get(DEPLOYMENTS, 'web', 'shop');
    return status.updatedReplicas === 1 && status.replicas === 3;
  });
  const conditions = (await client.get(DEPLOYMENTS, 'web', 'shop')).status?.conditions as {
    reason: string;
  }[];
  assert.equal(conditions[1]?.reason, 'ReplicaSetUpdated');
  assert.equal(seen.fewestReady, 2);

  const recreate = {
    spec: {
      strategy: { type: 'Recreate', rollingUpdate: null },
      template: deployment('web', 2).spec.template,
    },
  };
  await client.patch(DEPLOYMENTS, 'web', 'merge', recreate, inShop);
  await rolledOut(client, 'web');
  await until('three pods become two', async () => (await client.list(PODS, inShop)).items.length === 2);
  seen.mostPods = 0;
  const image = { spec: { template: { metadata: { annotations: { release: '2' } } } } };
  await client.patch(DEPLOYMENTS, 'web', 'merge', image, inShop);
  await rolledOut(client, 'web');
  assert.equal(seen.mostPods, 2);
});

test('a Deployment scaled in the middle of a roll-out: the change is spread over its sets by their sizes', async (t) => {
  const { client, kubectl } = await openCluster(t);
  startKubelet(t, client);
  const { spec, ...web } = deployment('web', 10);
  const strategy = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 3, maxUnavailable: 2 } } as const;
  await client.create(DEPLOYMENTS, { ...web, spec: { ...spec, strategy } });
  await rolledOut(client, 'web');
  await kubectl('set', 'image', 'deploy/web', `main=${BROKEN_IMAGE}`, '-n', 'shop');
  const sizes = async (): Promise<string> => {
    const { items } = await client.list(REPLICA_SETS, inShop);
    const broken = (set: (typeof items)[number]): boolean =>
      set.spec.template.spec.containers[0]?.image === BROKEN_IMAGE;
    return [...items]
      .sort((a, b) => Number(broken(a)) - Number(broken(b)))
      .map((set) => set.spec.replicas)
      .join(' and ');
  };
  // The example of the Kubernetes documentation, "Proportional scaling".
  await until('the roll-out to be stuck', async () => (await sizes()) === '8 and 5');
  await kubectl('scale', 'deploy/web', '-n', 'shop', '--replicas=15');
  await until('both to grow', async () => (await sizes()) === '11 and 7');
  await kubectl('rollout', 'undo', 'deploy/web', '-n', 'shop');
  await rolledOut(client, 'web');
  assert.equal(await sizes(), '15 and 0');
});

test('a ReplicaSet replaces a deleted pod, adopts a matching one, and leaves others alone', async (t) => {
  const { client } = await openCluster(t);
  startKubelet(t, client);
  const stranger: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'stranger', namespace: 'shop', labels: { app: 'web' } },
    spec: { containers: [{ name: 'main', image: 'local/web' }] },
  };
  await until('the default account', () =>
    client.get(SERVICE_ACCOUNTS, 'default', 'shop').catch(() => undefined),
  );
  await client.create(PODS, stranger);
  await client.create(PODS, { ...stranger, metadata: { name: 'other', namespace: 'shop' } });
  const { selector, template } = deployment('web', 2).spec;
  await client.create(REPLICA_SETS, {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: 'web', namespace: 'shop' },
    spec: { replicas: 2, selector, template },
  });
  const ready = () =>
    until('two ready replicas', async () => {
      const { items } = await client.list(PODS, { ...inShop, labelSelector: 'app=web' });
      const { status } = await client.get(REPLICA_SETS, 'web', 'shop');
      return items.length === 2 && status?.readyReplicas === 2 && names(items);
    });
  assert.ok((await ready()).includes('stranger'));
  await client.delete(PODS, 'stranger', inShop);
  await until(
    'the end of the deleted pod',
    async () => !names((await client.list(PODS, inShop)).items).includes('stranger'),
  );
  await ready();
  assert.deepEqual((await client.get(PODS, 'other', 'shop')).metadata.ownerReferences, undefined);
});

test('a DaemonSet: one pod for every node, cordoned or new; an update replaces them one by one', async (t) => {
  const { client } = await openCluster(t);
  const seen = startKubelet(t, client);
  await client.patch(NODES, 'n2', 'merge', { spec: { unschedulable: true } });
  const { selector, template } = deployment('agent', 1).spec;
  const daemonSet: DaemonSet = {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name: 'agent', namespace: 'shop' },
    spec: { selector, template },
  };
  await client.create(DAEMON_SETS, daemonSet);
  const complete = (nodes: number) =>
    until(`a daemon on ${nodes} nodes`, async () => {
      const { metadata, status = {} } = await client.get(DAEMON_SETS, 'agent', 'shop');
      const { items } = await client.list(PODS, inShop);
      return (
        status.observedGeneration === metadata.generation &&
        status.desiredNumberScheduled === nodes &&
        status.updatedNumberScheduled === nodes &&
        status.numberAvailable === nodes &&
        items.length === nodes &&
        items.map(({ spec }) => spec.nodeName).sort()
      );
    });
  assert.deepEqual(await complete(2), ['n1', 'n2']);
  await addNode(client, 'n3');
  assert.deepEqual(await complete(3), ['n1', 'n2', 'n3']);
  seen.fewestReady = Number.POSITIVE_INFINITY;
  seen.mostPods = 0;
  const next = { spec: { template: { metadata: { annotations: { release: '2' } } } } };
  await client.patch(DAEMON_SETS, 'agent', 'merge', next, inShop);
  await complete(3);
  assert.equal(seen.fewestReady, 2);
  assert.equal(seen.mostPods, 3);
  await client.delete(NODES, 'n3');
  assert.deepEqual(await complete(2), ['n1', 'n2']);
});

test('the scheduler: waits for a node that fits, and says why', async (t) => {
  const { client } = await openCluster(t);
  startKubelet(t, client);
  const picky = deployment('web', 1);
  picky.spec.template.spec.nodeSelector = { disk: 'ssd' };
  await client.create(DEPLOYMENTS, picky);
  const pod = await until('the reason', async () => {
    const [found] = (await client.list(PODS, inShop)).items;
    return found?.status?.conditions?.some(({ type }) => type === 'PodScheduled') && found;
  });
  assert.equal(
    pod.status?.conditions?.find(({ type }) => type === 'PodScheduled')?.message,
    "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
  );
  await client.patch(NODES, 'n2', 'merge', { metadata: { labels: { disk: 'ssd' } } });
  await rolledOut(client, 'web');
  assert.equal((await client.get(PODS, pod.metadata.name, 'shop')).spec.nodeName, 'n2');
});

test('EndpointSlices follow the pods of a Service', async (t) => {
  const { client } = await openCluster(t);
  startKubelet(t, client);
  await client.create(SERVICES, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop', labels: { team: 'a' } },
    spec: { selector: { app: 'web' }, ports: [{ name: 'http', port: 80, targetPort: 'http' }] },
  });
  const sliceWith = (count: number) =>
    until(`a slice with ${count} ready endpoints`, async () => {
      const options = { ...inShop, labelSelector: 'kubernetes.io/service-name=web' };
      const { items } = await client.list(ENDPOINT_SLICES, options);
      const [slice] = items;
      const ready = (slice?.endpoints ?? []).filter(({ conditions }) => conditions?.ready === true);
      return items.length === 1 && ready.length === count && slice;
    });
  const emptySlice = await sliceWith(0);
  await client.create(DEPLOYMENTS, deployment('web', 3));
  await rolledOut(client, 'web');
  const slice = await sliceWith(3);
  assert.equal(slice.metadata.uid, emptySlice.metadata.uid);
  assert.equal(slice.metadata.labels?.team, 'a');
  assert.equal(
    slice.metadata.labels?.['endpointslice.kubernetes.io/managed-by'],
    'endpointslice-controller.k8s.io',
  );
  assert.deepEqual(slice.ports, [{ name: 'http', port: 8080, protocol: 'TCP' }]);
  const pods = (await client.list(PODS, inShop)).items;
  assert.deepEqual(
    slice.endpoints
      .map(({ addresses, nodeName, targetRef }) => [addresses[0], nodeName, targetRef?.uid])
      .sort(),
    pods.map(({ metadata, spec, status }) => [status?.podIP, spec.nodeName, metadata.uid]).sort(),
  );

  await client.patch(DEPLOYMENTS, 'web', 'merge', { spec: { replicas: 1 } }, inShop);
  await sliceWith(1);
  await client.delete(SERVICES, 'web', inShop);
  await until('no slice', async () => {
    const { items } = await client.list(ENDPOINT_SLICES, inShop);
    return items.length === 0;
  });
});

test('Endpoints written by hand for a Service without selector are mirrored, followed and taken back', async (t) => {
  const { client } = await openCluster(t);
  const spec = { ports: [{ name: 'sql', port: 5432 }] };
  const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'db', namespace: 'shop' }, spec };
  await client.create(SERVICES, service);
  const ports = [{ name: 'sql', port: 5432, protocol: 'TCP' }];
  await client.create(ENDPOINTS, {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { name: 'db', namespace: 'shop', labels: { team: 'a' } },
    subsets: [{ addresses: [{ ip: '198.51.100.1' }], ports }],
  });
  const mirrored = (addresses: readonly string[]) =>
    until(`slices with ${addresses.join(' ')}`, async () => {
      const { items } = await client.list(ENDPOINT_SLICES, {
        ...inShop,
        labelSelector: 'kubernetes.io/service-name=db',
      });
      const seen = items.flatMap(({ endpoints }) => endpoints.flatMap((each) => each.addresses)).sort();
      return seen.join() === addresses.join() && items;
    });
  const [slice] = await mirrored(['198.51.100.1']);
  assert.deepEqual(slice?.ports, ports);
  assert.equal(slice?.metadata.labels?.team, 'a');
  const subsets = [{ addresses: [{ ip: '198.51.100.2' }, { ip: '198.51.100.3' }], ports }];
  await client.patch(ENDPOINTS, 'db', 'merge', { subsets }, inShop);
  await mirrored(['198.51.100.2', '198.51.100.3']);
  // With a selector the endpoints are the pods, which there are none of.
  await client.patch(SERVICES, 'db', 'merge', { spec: { selector: { app: 'db' } } }, inShop);
  await mirrored([]);
  await client.patch(SERVICES, 'db', 'merge', { spec: { selector: null } }, inShop);
  await mirrored(['198.51.100.2', '198.51.100.3']);
  await client.delete(ENDPOINTS, 'db', inShop);
  await mirrored([]);
});

test('garbage: dangling references, orphans, foreground deletion', async (t) => {
  const { client } = await openCluster(t);
  const map = (name: string, owners: readonly ConfigMap[] = []): ConfigMap => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name,
      namespace: 'shop',
      ownerReferences: owners.map(({ metadata }) => ({
        apiVersion: 'v1',
        kind: 'ConfigMap',
        name: metadata.name,
        uid: metadata.uid ?? '',
        blockOwnerDeletion: true,
      })),
    },
  });
  const make = (name: string, owners?: readonly ConfigMap[]) => client.create(CONFIG_MAPS, map(name, owners));
  const ours = async (): Promise<string[]> =>
    names((await client.list(CONFIG_MAPS, inShop)).items).filter((name) => name.length === 1);
  const become = (...expected: string[]) =>
    until(`only ${expected.join(', ')}`, async () => (await ours()).join() === expected.join());

  const [a, b] = [await make('a'), await make('b')];
  await make('c', [a]);
  await make('d', [a, b]);
  await make('e', [await make('f', [a])]);
  await client.delete(CONFIG_MAPS, 'a', inShop);
  await become('b', 'd');
  await until('one reference left', async () => {
    const { metadata } = await client.get(CONFIG_MAPS, 'd', 'shop');
    return metadata.ownerReferences?.map(({ name }) => name).join() === 'b';
  });

  // A reference to what never existed.
  await make('g', [
    { ...a, metadata: { ...a.metadata, name: 'never', uid: '00000000-0000-0000-0000-000000000000' } },
  ]);
  await become('b', 'd');

  await client.delete(CONFIG_MAPS, 'b', { ...inShop, propagation: 'Orphan' });
  await become('d');
  assert.equal((await client.get(CONFIG_MAPS, 'd', 'shop')).metadata.ownerReferences, undefined);

  const h = await make('h', [await client.get(CONFIG_MAPS, 'd', 'shop')]);
  await make('i', [h]);
  await client.delete(CONFIG_MAPS, 'd', { ...inShop, propagation: 'Foreground' });
  await become();
});

test('an aggregated ClusterRole follows the roles its labels match', async (t) => {
  const { client } = await openCluster(t);
  const role = (name: string, labels: Record<string, string>, verbs: string[]): ClusterRole => ({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRole',
    metadata: { name, labels },
    rules: [{ apiGroups: ['x'], resources: [name], verbs }],
  });
  const resourcesOf = async (name: string): Promise<string> =>
    ((await client.get(CLUSTER_ROLES, name)).rules ?? []).flatMap(({ resources }) => resources ?? []).join();
  await client.create<ClusterRole>(CLUSTER_ROLES, {
    ...role('all', {}, []),
    rules: [],
    aggregationRule: { clusterRoleSelectors: [{ matchLabels: { part: 'yes' } }] },
  });
  await client.create(CLUSTER_ROLES, role('b', { part: 'yes' }, ['get']));
  await client.create(CLUSTER_ROLES, role('a', { part: 'yes' }, ['get']));
  await client.create(CLUSTER_ROLES, role('c', { part: 'no' }, ['get']));
  await until('both parts', async () => (await resourcesOf('all')) === 'a,b');
  await client.delete(CLUSTER_ROLES, 'a');
  await until('one part', async () => (await resourcesOf('all')) === 'b');
  // Through two steps: what is viewed may be edited and administered.
  const label = 'rbac.authorization.k8s.io/aggregate-to-view';
  await client.create(CLUSTER_ROLES, role('gadgets', { [label]: 'true' }, ['get']));
  for (const name of ['view', 'edit', 'admin'])
    await until(name, async () => (await resourcesOf(name)).includes('gadgets'));
});

test('pods that the server refuses are an event of their workload, and are made when the reason is gone', async (t) => {
  const { client, kubectl } = await openCluster(t);
  startKubelet(t, client);
  const web = deployment('web', 1);
  web.spec.template.spec.serviceAccountName = 'later';
  await client.create(DEPLOYMENTS, web);
  await until('the event', async () =>
    (await kubectl('get', 'events', '-n', 'shop')).includes('error looking up service account shop/later'),
  );
  const failure = async (): Promise<string | undefined> => {
    const { status } = await client.get(DEPLOYMENTS, 'web', 'shop');
    const conditions = (status?.conditions ?? []) as { type: string; reason: string; message: string }[];
    const found = conditions.find(({ type }) => type === 'ReplicaFailure');
    return found === undefined ? undefined : `${found.reason}: ${found.message}`;
  };
  assert.match(await until('the condition', failure), /^FailedCreate: .*service account shop\/later/);
  await client.create(SERVICE_ACCOUNTS, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'later', namespace: 'shop' },
  });
  await rolledOut(client, 'web');
  await until('the end of the condition', async () => (await failure()) === undefined);
});
