// PersistentVolumes and claims against the embedded API server and controllers, with a stand-in for the kubelet and kubectl.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeClient } from '#k8s/client.ts';
import { EVENTS, type KubeObject, PODS, type Pod } from '#k8s/objects.ts';
import {
  PERSISTENT_VOLUME_CLAIMS,
  PERSISTENT_VOLUMES,
  type PersistentVolume,
  type PersistentVolumeClaim,
  STORAGE_CLASSES,
} from '#k8s/storage.ts';
import { until } from '../lib/until.ts';
import { inShop, openCluster, startKubelet } from './controllers-rig.ts';

const claim = (name: string, spec: Partial<PersistentVolumeClaim['spec']> = {}): PersistentVolumeClaim => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name, namespace: 'shop' },
  spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } }, ...spec },
});
const user = (name: string, claimName: string): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'shop' },
  spec: {
    containers: [{ name: 'main', image: 'local/web', volumeMounts: [{ name: 'v', mountPath: '/v' }] }],
    volumes: [{ name: 'v', persistentVolumeClaim: { claimName } }],
  },
});
const byHand = (name: string, spec: Partial<PersistentVolume['spec']> = {}): PersistentVolume => ({
  apiVersion: 'v1',
  kind: 'PersistentVolume',
  metadata: { name },
  spec: {
    capacity: { storage: '2Gi' },
    accessModes: ['ReadWriteOnce'],
    hostPath: { path: '/var/data' },
    ...spec,
  },
});
const phase = (client: KubeClient, name: string, wanted: string) =>
  until(`claim ${name} to be ${wanted}`, async () => {
    const found = await client.get(PERSISTENT_VOLUME_CLAIMS, name, 'shop');
    return found.status?.phase === wanted && found;
  });
const volumePhase = (client: KubeClient, name: string, wanted: string) =>
  until(`volume ${name} to be ${wanted}`, async () => {
    const found = await client.get(PERSISTENT_VOLUMES, name);
    return found.status?.phase === wanted && found;
  });
const event = (client: KubeClient, name: string, reason: string) =>
  until(`the event ${reason} of ${name}`, async () => {
    const { items } = await client.list<KubeObject & { reason?: string; message?: string }>(EVENTS, {
      ...inShop,
      fieldSelector: `involvedObject.name=${name}`,
    });
    return items.find((each) => each.reason === reason)?.message;
  });

test("a claim of the default class waits for its first pod, then has a volume on that pod's node", async (t) => {
  const { client, kubectl, removedVolumes } = await openCluster(t);
  startKubelet(t, client);
  assert.match(
    await kubectl('get', 'storageclass'),
    /^standard \(default\) +culvert\.local\/directory +Delete +WaitForFirstConsumer +false /m,
  );
  await client.create(PERSISTENT_VOLUME_CLAIMS, claim('data'));
  assert.equal(
    await event(client, 'data', 'WaitForFirstConsumer'),
    'waiting for first consumer to be created before binding',
  );
  assert.match(await kubectl('get', 'pvc', '-n', 'shop'), /^data +Pending +standard /m);
  await client.create(PODS, user('web', 'data'));
  const bound = await phase(client, 'data', 'Bound');
  assert.deepEqual(bound.status, {
    phase: 'Bound',
    accessModes: ['ReadWriteOnce'],
    capacity: { storage: '1Gi' },
  });
  const pod = await until('the pod to be placed', async () => {
    const found = await client.get(PODS, 'web', 'shop');
    return found.spec.nodeName !== undefined && found;
  });
  const { volumeName = '' } = bound.spec;
  assert.match(
    await kubectl('get', 'pv'),
    new RegExp(`^${volumeName} +1Gi +RWO +Delete +Bound +shop/data +standard +<unset> `, 'm'),
  );

  // In use it is not taken away: the claim goes after the pod, the volume and its data after the claim.
  await client.delete(PERSISTENT_VOLUME_CLAIMS, 'data', inShop);
  assert.match(await kubectl('get', 'pvc', '-n', 'shop'), /^data +Terminating /m);
  await client.create(PODS, user('late', 'data'));
  assert.equal(
    await event(client, 'late', 'FailedScheduling'),
    '0/2 nodes are available: persistentvolumeclaim "data" is being deleted.',
  );
  assert.deepEqual(removedVolumes, []);
  await client.delete(PODS, 'web', inShop);
  await until('the end of claim and volume', async () => {
    const [claims, volumes] = await Promise.all([
      client.list(PERSISTENT_VOLUME_CLAIMS, inShop),
      client.list(PERSISTENT_VOLUMES),
    ]);
    return claims.items.length + volumes.items.length === 0;
  });
  assert.deepEqual(removedVolumes, [`${pod.spec.nodeName} ${volumeName}`]);
});

test('a pod whose claim is missing waits and says so; it goes on when the claim comes', async (t) => {
  const { client } = await openCluster(t);
  startKubelet(t, client);
  await client.create(PODS, user('web', 'data'));
  assert.equal(
    await event(client, 'web', 'FailedScheduling'),
    '0/2 nodes are available: persistentvolumeclaim "data" not found.',
  );
  await client.create(PERSISTENT_VOLUME_CLAIMS, claim('data'));
  await until(
    'the pod to run',
    async () => (await client.get(PODS, 'web', 'shop')).status?.phase === 'Running',
  );
});

test('volumes made by hand: the smallest that serves is taken, kept after its claim, and waited for', async (t) => {
  const { client, kubectl, removedVolumes } = await openCluster(t);
  for (const [name, spec] of [
    ['large', { capacity: { storage: '9Gi' } }],
    ['small', { capacity: { storage: '100Mi' } }],
    ['right', {}],
    ['shared', { accessModes: ['ReadWriteMany'], capacity: { storage: '1Gi' } }],
  ] as const)
    await client.create(PERSISTENT_VOLUMES, byHand(name, spec as Partial<PersistentVolume['spec']>));
  await volumePhase(client, 'right', 'Available');
  await client.create(PERSISTENT_VOLUME_CLAIMS, claim('first', { storageClassName: '' }));
  assert.equal((await phase(client, 'first', 'Bound')).spec.volumeName, 'right');
  await client.create(
    PERSISTENT_VOLUME_CLAIMS,
    claim('huge', { storageClassName: '', resources: { requests: { storage: '100Gi' } } }),
  );
  assert.equal(
    await event(client, 'huge', 'FailedBinding'),
    'no persistent volumes available for this claim and no storage class is set',
  );
  await client.create(PERSISTENT_VOLUMES, byHand('vast', { capacity: { storage: '1Ti' } }));
  assert.equal((await phase(client, 'huge', 'Bound')).spec.volumeName, 'vast');

  await client.delete(PERSISTENT_VOLUME_CLAIMS, 'first', inShop);
  await volumePhase(client, 'right', 'Released');
  assert.match(await kubectl('get', 'pv', 'right'), /^right +2Gi +RWO +Retain +Released +shop\/first /m);
  // A claim of the same name is another claim: it must not get the other one's data.
  await client.create(PERSISTENT_VOLUME_CLAIMS, claim('first', { storageClassName: '' }));
  assert.equal((await phase(client, 'first', 'Bound')).spec.volumeName, 'large');
  await client.patch(PERSISTENT_VOLUMES, 'right', 'merge', { spec: { claimRef: null } });
  await volumePhase(client, 'right', 'Available');
  assert.deepEqual(removedVolumes, []);
});

test('a claim by name and a volume made for it find each other; what does not fit is said', async (t) => {
  const { client } = await openCluster(t);
  await client.create(
    PERSISTENT_VOLUMES,
    byHand('reserved', { claimRef: { namespace: 'shop', name: 'mine' }, storageClassName: 'standard' }),
  );
  await client.create(PERSISTENT_VOLUME_CLAIMS, claim('mine'));
  assert.equal(
    (await phase(client, 'mine', 'Bound')).spec.volumeName,
    'reserved',
    'without waiting for a pod',
  );
  await client.create(PERSISTENT_VOLUMES, byHand('tiny', { capacity: { storage: '1Mi' } }));
  await client.create(PERSISTENT_VOLUME_CLAIMS, claim('wrong', { volumeName: 'tiny', storageClassName: '' }));
  assert.equal(
    await event(client, 'wrong', 'VolumeMismatch'),
    'Cannot bind to requested volume "tiny": requested PV is too small',
  );
});

test('a bound claim whose volume is gone is lost', async (t) => {
  const { client } = await openCluster(t);
  await client.create(PERSISTENT_VOLUMES, byHand('v'));
  await client.create(PERSISTENT_VOLUME_CLAIMS, claim('c', { storageClassName: '' }));
  await phase(client, 'c', 'Bound');
  await client.delete(PERSISTENT_VOLUMES, 'v');
  assert.ok((await client.get(PERSISTENT_VOLUMES, 'v')).metadata.deletionTimestamp, 'kept while bound');
  await client.patch(PERSISTENT_VOLUMES, 'v', 'merge', { metadata: { finalizers: null } });
  await phase(client, 'c', 'Lost');
  assert.match(await event(client, 'c', 'ClaimLost'), /has lost its PersistentVolume/);
});

test('a class without a provisioner places its pods where a volume is; one that binds at once asks no pod', async (t) => {
  const { client } = await openCluster(t);
  startKubelet(t, client);
  await client.create(STORAGE_CLASSES, {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name: 'disks' },
    provisioner: 'kubernetes.io/no-provisioner',
    volumeBindingMode: 'WaitForFirstConsumer',
  });
  await client.create(PERSISTENT_VOLUME_CLAIMS, claim('disk', { storageClassName: 'disks' }));
  await client.create(PODS, user('web', 'disk'));
  assert.equal(
    await event(client, 'web', 'FailedScheduling'),
    "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
  );
  const onN2 = {
    matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In' as const, values: ['n2'] }],
  };
  const { hostPath: _hostPath, ...rest } = byHand('disk-n2').spec;
  await client.create(PERSISTENT_VOLUMES, {
    ...byHand('disk-n2'),
    spec: {
      ...rest,
      local: { path: '/mnt/disk' },
      storageClassName: 'disks',
      nodeAffinity: { required: { nodeSelectorTerms: [onN2] } },
    },
  });
  const pod = await until('the pod to be placed', async () => {
    const found = await client.get(PODS, 'web', 'shop');
    return found.spec.nodeName !== undefined && found;
  });
  assert.equal(pod.spec.nodeName, 'n2');

  await client.create(STORAGE_CLASSES, {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name: 'now' },
    provisioner: 'culvert.local/directory',
    reclaimPolicy: 'Retain',
    allowVolumeExpansion: true,
  });
  await client.create(PERSISTENT_VOLUME_CLAIMS, claim('early', { storageClassName: 'now' }));
  const { volumeName = '' } = (await phase(client, 'early', 'Bound')).spec;
  const larger = { spec: { resources: { requests: { storage: '3Gi' } } } };
  await client.patch(PERSISTENT_VOLUME_CLAIMS, 'early', 'merge', larger, inShop);
  await until('the claim to have grown', async () => {
    const { status } = await client.get(PERSISTENT_VOLUME_CLAIMS, 'early', 'shop');
    return status?.capacity?.storage === '3Gi';
  });
  await client.delete(PERSISTENT_VOLUME_CLAIMS, 'early', inShop);
  await volumePhase(client, volumeName, 'Released');
});

test('what a claim, a volume and a class may not be, or become', async (t) => {
  const { client } = await openCluster(t);
  const refused = (object: KubeObject, resource: Parameters<KubeClient['create']>[0], text: RegExp) =>
    assert.rejects(client.create(resource, object), text);
  await refused(
    claim('c', { accessModes: ['Sometimes'] }),
    PERSISTENT_VOLUME_CLAIMS,
    /spec\.accessModes: Unsupported value: "Sometimes": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"/,
  );
  await refused(
    claim('c', { resources: {} }),
    PERSISTENT_VOLUME_CLAIMS,
    /spec\.resources\[storage\]: Required value/,
  );
  const { hostPath: _hostPath, ...noSource } = byHand('v').spec;
  await refused(
    { ...byHand('v'), spec: noSource } as PersistentVolume,
    PERSISTENT_VOLUMES,
    /spec: Required value: must specify a volume type/,
  );
  await refused(
    byHand('v', { local: { path: '/x' } }),
    PERSISTENT_VOLUMES,
    /may not specify more than 1 volume type/,
  );
  await client.create(PERSISTENT_VOLUME_CLAIMS, claim('c'));
  const change = (spec: object) => client.patch(PERSISTENT_VOLUME_CLAIMS, 'c', 'merge', { spec }, inShop);
  await assert.rejects(
    change({ accessModes: ['ReadWriteMany'] }),
    /spec: Forbidden: spec is immutable after creation except resources\.requests/,
  );
  await assert.rejects(
    change({ resources: { requests: { storage: '2Gi' } } }),
    /only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize/,
  );
  await assert.rejects(
    client.patch(STORAGE_CLASSES, 'standard', 'merge', { provisioner: 'example.com/other' }),
    /provisioner: Forbidden: updates to provisioner are forbidden\./,
  );
});
