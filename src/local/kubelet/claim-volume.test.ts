import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#k8s/objects.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '#k8s/storage.ts';
import { claimVolume } from './claim-volume.ts';

const POD: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', namespace: 'ns' },
  spec: { containers: [] },
};
const CLAIM: PersistentVolumeClaim = {
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name: 'c', namespace: 'ns', uid: 'u1' },
  spec: { volumeName: 'v' },
  status: { phase: 'Bound' },
};
const volume = (spec: PersistentVolume['spec']): PersistentVolume => ({
  apiVersion: 'v1',
  kind: 'PersistentVolume',
  metadata: { name: 'v' },
  spec: { claimRef: { namespace: 'ns', name: 'c', uid: 'u1' }, ...spec },
});
const look = (claim: PersistentVolumeClaim | undefined, held: PersistentVolume | undefined): string => {
  const source = { claim: () => claim, persistentVolume: () => held };
  const node = { metadata: { name: 'n1', labels: { 'kubernetes.io/hostname': 'n1' } } };
  const found = claimVolume(POD, 'c', source, node);
  return found.kind === 'path' ? `${found.path} ${found.type}` : found.message;
};

test('a bound claim leads to a directory of the node', () => {
  const hostPath = { path: '/var/data', type: 'DirectoryOrCreate' };
  assert.equal(look(CLAIM, volume({ hostPath })), '/var/data DirectoryOrCreate');
  assert.equal(look(CLAIM, volume({ local: { path: '/mnt/disk' } })), '/mnt/disk Directory');
});

test('whatever is missing or wrong holds the pod back with a sentence', () => {
  const hostPath = { path: '/var/data' };
  assert.equal(look(undefined, undefined), 'persistentvolumeclaim "c" not found');
  assert.match(look({ ...CLAIM, status: { phase: 'Pending' } }, undefined), /"c" is not bound to a volume/);
  assert.match(look(CLAIM, undefined), /persistentvolume "v" of claim "c" not found/);
  // The volume of a claim of the same name that is gone.
  const stranger = { namespace: 'ns', name: 'c', uid: 'u0' };
  assert.match(look(CLAIM, volume({ hostPath, claimRef: stranger })), /"v" of claim "c" not found/);
  const elsewhere = {
    required: {
      nodeSelectorTerms: [
        { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In' as const, values: ['n2'] }] },
      ],
    },
  };
  assert.match(look(CLAIM, volume({ hostPath, nodeAffinity: elsewhere })), /cannot be reached from node n1/);
  assert.match(look(CLAIM, volume({ hostPath, volumeMode: 'Block' })), /block device/);
  assert.match(look(CLAIM, volume({})), /neither hostPath nor local/);
});
