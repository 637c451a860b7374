// StatefulSets and the history of workloads against the embedded API server, with a stand-in for the kubelet and the stock kubectl.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeClient } from '#k8s/client.ts';
import {
  DAEMON_SETS,
  type DaemonSet,
  DEPLOYMENTS,
  PODS,
  type Pod,
  STATEFUL_SETS,
  type StatefulSet,
} from '#k8s/objects.ts';
import { PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES } from '#k8s/storage.ts';
import { until } from '../lib/until.ts';
import {
  BROKEN_IMAGE,
  deployment,
  inShop,
  names,
  openCluster,
  rolledOut,
  startKubelet,
} from './controllers-rig.ts';

function statefulSet(
  name: string,
  spec: Partial<StatefulSet['spec']> = {},
  image = 'local/web',
): StatefulSet {
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name, namespace: 'shop' },
    spec: {
      replicas: 3,
      serviceName: name,
      selector: { matchLabels: { app: name } },
      template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: 'main', image }] } },
      ...spec,
    },
  };
}

const complete = (client: KubeClient, name: string, replicas: number) =>
  until(`the rollout of ${name}`, async () => {
    const { metadata, status = {} } = await client.get(STATEFUL_SETS, name, 'shop');
    return (
      status.observedGeneration === metadata.generation &&
      status.readyReplicas === replicas &&
      status.replicas === replicas &&
      status.currentRevision === status.updateRevision &&
      status
    );
  });

const imagesOf = (pods: readonly Pod[]): Record<string, string> =>
  Object.fromEntries(pods.map(({ metadata, spec }) => [metadata.name, spec.containers[0]?.image ?? '']));
const newImage = (image: string) => ({
  spec: { template: { spec: { containers: [{ name: 'main', image }] } } },
});

test('a StatefulSet: numbered pods one after the other, known by name; scaling takes the highest number', async (t) => {
  const { client, kubectl } = await openCluster(t);
  startKubelet(t, client);
  await client.create(STATEFUL_SETS, statefulSet('db'));
  await complete(client, 'db', 3);
  const { items } = await client.list(PODS, inShop);
  assert.deepEqual(names(items), ['db-0', 'db-1', 'db-2']);
  const born = [...items].sort(
    (a, b) => Number(a.metadata.resourceVersion) - Number(b.metadata.resourceVersion),
  );
  assert.deepEqual(
    born.map(({ metadata }) => metadata.name),
    ['db-0', 'db-1', 'db-2'],
  );
  const first = await client.get(PODS, 'db-0', 'shop');
  assert.equal(first.spec.hostname, 'db-0');
  assert.equal(first.spec.subdomain, 'db');
  assert.equal(first.metadata.labels?.['statefulset.kubernetes.io/pod-name'], 'db-0');
  assert.equal(first.metadata.labels?.['apps.kubernetes.io/pod-index'], '0');
  assert.match(await kubectl('get', 'statefulset', '-n', 'shop'), /NAME +READY +AGE\ndb +3\/3 /);

  await kubectl('scale', 'sts/db', '-n', 'shop', '--replicas=1');
  await complete(client, 'db', 1);
  assert.deepEqual(names((await client.list(PODS, inShop)).items), ['db-0']);
  // The same name again, another pod.
  await client.delete(PODS, 'db-0', inShop);
  await until('a new db-0', async () => {
    const again = await client.get(PODS, 'db-0', 'shop').catch(() => undefined);
    return again !== undefined && again.metadata.uid !== first.metadata.uid;
  });
  await client.delete(STATEFUL_SETS, 'db', inShop);
  await until('the end of its pods', async () => (await client.list(PODS, inShop)).items.length === 0);
});

test('a StatefulSet rolls from the last pod down to its partition; kubectl rollout knows its history', async (t) => {
  const { client, kubectl } = await openCluster(t);
  const seen = startKubelet(t, client);
  await client.create(
    STATEFUL_SETS,
    statefulSet('db', { updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 2 } } }),
  );
  await complete(client, 'db', 3);
  await kubectl('set', 'image', 'sts/db', 'main=local/two', '-n', 'shop');
  await until(
    'db-2 to be replaced',
    async () => imagesOf((await client.list(PODS, inShop)).items)['db-2'] === 'local/two',
  );
  await until(
    'db-2 to be ready',
    async () => (await client.get(STATEFUL_SETS, 'db', 'shop')).status?.readyReplicas === 3,
  );
  assert.deepEqual(imagesOf((await client.list(PODS, inShop)).items), {
    'db-0': 'local/web',
    'db-1': 'local/web',
    'db-2': 'local/two',
  });
  // One below the partition comes back as it was.
  await client.delete(PODS, 'db-0', inShop);
  await until('db-0 again', async () => {
    const status = (await client.get(STATEFUL_SETS, 'db', 'shop')).status ?? {};
    return (
      status.readyReplicas === 3 && imagesOf((await client.list(PODS, inShop)).items)['db-0'] === 'local/web'
    );
  });
  seen.fewestReady = Number.POSITIVE_INFINITY;
  await client.patch(
    STATEFUL_SETS,
    'db',
    'merge',
    { spec: { updateStrategy: { rollingUpdate: { partition: 0 } } } },
    inShop,
  );
  assert.match(
    await kubectl('rollout', 'status', 'sts/db', '-n', 'shop', '--timeout=30s'),
    /complete|rolling update/,
  );
  await complete(client, 'db', 3);
  assert.equal(seen.fewestReady, 2, 'never more than one was missing');

  assert.match(await kubectl('rollout', 'history', 'sts/db', '-n', 'shop'), /^1 .*\n2 /m);
  await kubectl('rollout', 'undo', 'sts/db', '-n', 'shop');
  await until('the old image everywhere', async () => {
    const images = imagesOf((await client.list(PODS, inShop)).items);
    return Object.keys(images).length === 3 && Object.values(images).every((image) => image === 'local/web');
  });
  await complete(client, 'db', 3);
  // The revision that came back has a new number, and no third one was made.
  assert.match(await kubectl('rollout', 'history', 'sts/db', '-n', 'shop'), /^2 .*\n3 /m);
});

test('a StatefulSet: OnDelete waits for the person; Parallel waits for nobody; a broken pod holds the order', async (t) => {
  const { client } = await openCluster(t);
  startKubelet(t, client);
  await client.create(
    STATEFUL_SETS,
    statefulSet('lazy', { replicas: 2, updateStrategy: { type: 'OnDelete' } }),
  );
  await until(
    'lazy',
    async () => (await client.get(STATEFUL_SETS, 'lazy', 'shop')).status?.readyReplicas === 2,
  );
  await client.patch(STATEFUL_SETS, 'lazy', 'merge', newImage('local/two'), inShop);
  await until('the change to be seen', async () => {
    const { metadata, status } = await client.get(STATEFUL_SETS, 'lazy', 'shop');
    return status?.observedGeneration === metadata.generation;
  });
  await client.delete(PODS, 'lazy-1', inShop);
  await until('lazy-1 as the new template says', async () => {
    const images = imagesOf((await client.list(PODS, inShop)).items);
    return images['lazy-1'] === 'local/two' && images['lazy-0'] === 'local/web';
  });

  await client.create(STATEFUL_SETS, statefulSet('stuck', {}, BROKEN_IMAGE));
  await client.create(STATEFUL_SETS, statefulSet('wide', { podManagementPolicy: 'Parallel' }, BROKEN_IMAGE));
  await until('all of the parallel one', async () => {
    const found = names((await client.list(PODS, { ...inShop, labelSelector: 'app=wide' })).items);
    return found.join() === 'wide-0,wide-1,wide-2';
  });
  assert.deepEqual(names((await client.list(PODS, { ...inShop, labelSelector: 'app=stuck' })).items), [
    'stuck-0',
  ]);
});

test('kubectl rollout: history, undo and restart of Deployments and DaemonSets', async (t) => {
  const { client, kubectl } = await openCluster(t);
  startKubelet(t, client);
  await client.create(DEPLOYMENTS, deployment('web', 2));
  await rolledOut(client, 'web');
  await kubectl('annotate', 'deployment/web', '-n', 'shop', 'kubernetes.io/change-cause=the first');
  await kubectl('set', 'image', 'deployment/web', 'main=local/two', '-n', 'shop');
  await kubectl(
    'annotate',
    '--overwrite',
    'deployment/web',
    '-n',
    'shop',
    'kubernetes.io/change-cause=the second',
  );
  await rolledOut(client, 'web');
  await until('both causes', async () => {
    const history = await kubectl('rollout', 'history', 'deployment/web', '-n', 'shop');
    return /^1 .*the first\n2 .*the second$/m.test(history);
  });
  await kubectl('rollout', 'undo', 'deployment/web', '-n', 'shop');
  await kubectl('rollout', 'status', 'deployment/web', '-n', 'shop', '--timeout=30s');
  const back = await client.get(DEPLOYMENTS, 'web', 'shop');
  assert.equal(back.spec.template.spec.containers[0]?.image, 'local/web');
  assert.equal(back.metadata.annotations?.['deployment.kubernetes.io/revision'], '3');

  const agent: DaemonSet = {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name: 'agent', namespace: 'shop' },
    spec: {
      selector: { matchLabels: { app: 'agent' } },
      template: {
        metadata: { labels: { app: 'agent' } },
        spec: { containers: [{ name: 'main', image: 'local/web' }] },
      },
    },
  };
  await client.create(DAEMON_SETS, agent);
  await kubectl('rollout', 'status', 'ds/agent', '-n', 'shop', '--timeout=30s');
  await kubectl('set', 'image', 'ds/agent', 'main=local/two', '-n', 'shop');
  await kubectl('rollout', 'status', 'ds/agent', '-n', 'shop', '--timeout=30s');
  await kubectl('rollout', 'undo', 'ds/agent', '-n', 'shop', '--to-revision=1');
  await kubectl('rollout', 'status', 'ds/agent', '-n', 'shop', '--timeout=30s');
  const pods = (await client.list(PODS, { ...inShop, labelSelector: 'app=agent' })).items;
  assert.deepEqual(new Set(Object.values(imagesOf(pods))), new Set(['local/web']));
  await kubectl('rollout', 'restart', 'ds/agent', '-n', 'shop');
  await kubectl('rollout', 'status', 'ds/agent', '-n', 'shop', '--timeout=30s');
  const before = new Set(pods.map(({ metadata }) => metadata.uid));
  const after = (await client.list(PODS, { ...inShop, labelSelector: 'app=agent' })).items;
  assert.ok(after.length === 2 && after.every(({ metadata }) => !before.has(metadata.uid)));
});

const dataTemplate = {
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name: 'data' },
  spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
};
const withData = (name: string, spec: Partial<StatefulSet['spec']> = {}): StatefulSet =>
  statefulSet(name, {
    replicas: 2,
    volumeClaimTemplates: [dataTemplate],
    template: {
      metadata: { labels: { app: name } },
      spec: {
        containers: [
          { name: 'main', image: 'local/web', volumeMounts: [{ name: 'data', mountPath: '/data' }] },
        ],
      },
    },
    ...spec,
  });

test('a StatefulSet with claims: each pod has its own, under its name, on its node, also when it is made again', async (t) => {
  const { client, kubectl } = await openCluster(t);
  startKubelet(t, client);
  await client.create(STATEFUL_SETS, withData('db'));
  await complete(client, 'db', 2);
  const table = await kubectl('get', 'pvc', '-n', 'shop');
  assert.match(table, /^data-db-0 +Bound +pvc-[-0-9a-f]{36} +1Gi +RWO +standard +<unset> /m);
  const claim = await client.get(PERSISTENT_VOLUME_CLAIMS, 'data-db-1', 'shop');
  assert.equal(claim.metadata.labels?.app, 'db');
  const volume = await client.get(PERSISTENT_VOLUMES, claim.spec.volumeName ?? '');
  const before = await client.get(PODS, 'db-1', 'shop');
  assert.deepEqual(volume.spec.nodeAffinity?.required?.nodeSelectorTerms[0]?.matchExpressions?.[0]?.values, [
    before.spec.nodeName,
  ]);
  assert.equal(
    before.spec.volumes?.find(({ name }) => name === 'data')?.persistentVolumeClaim?.claimName,
    'data-db-1',
  );

  await client.delete(PODS, 'db-1', inShop);
  const again = await until('db-1 again', async () => {
    const pod = await client.get(PODS, 'db-1', 'shop').catch(() => undefined);
    return pod !== undefined && pod.metadata.uid !== before.metadata.uid && pod.spec.nodeName !== undefined
      ? pod
      : undefined;
  });
  assert.equal(again.spec.nodeName, before.spec.nodeName, 'where its data is');
  await complete(client, 'db', 2);
  await client.delete(STATEFUL_SETS, 'db', inShop);
  await until('the end of its pods', async () => (await client.list(PODS, inShop)).items.length === 0);
  assert.equal((await client.list(PERSISTENT_VOLUME_CLAIMS, inShop)).items.length, 2, 'claims are kept');
});

test('claims go with their pod when the set shrinks, and with the set, where that is asked for', async (t) => {
  const { client, removedVolumes } = await openCluster(t);
  startKubelet(t, client);
  const policy = { whenDeleted: 'Delete', whenScaled: 'Delete' } as const;
  await client.create(STATEFUL_SETS, withData('db', { persistentVolumeClaimRetentionPolicy: policy }));
  await complete(client, 'db', 2);
  await client.patch(STATEFUL_SETS, 'db', 'merge', { spec: { replicas: 1 } }, inShop);
  await until('the end of one claim', async () => {
    const { items } = await client.list(PERSISTENT_VOLUME_CLAIMS, inShop);
    return names(items).join() === 'data-db-0';
  });
  await client.delete(STATEFUL_SETS, 'db', inShop);
  await until(
    'the end of the other',
    async () => (await client.list(PERSISTENT_VOLUME_CLAIMS, inShop)).items.length === 0,
  );
  await until(
    'the end of the volumes',
    async () => (await client.list(PERSISTENT_VOLUMES)).items.length === 0,
  );
  assert.equal(removedVolumes.length, 2);
});

test('a claim template is checked like a claim', async (t) => {
  const { client } = await openCluster(t);
  const { spec: _spec, ...without } = dataTemplate;
  await assert.rejects(
    client.create(
      STATEFUL_SETS,
      statefulSet('db', { volumeClaimTemplates: [{ ...without, spec: { accessModes: [] } }] }),
    ),
    /spec\.volumeClaimTemplates\[0\]\.spec\.accessModes: Required value: at least 1 access mode is required/,
  );
});
