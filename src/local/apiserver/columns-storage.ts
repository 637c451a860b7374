// Columns of persistent volumes, claims and storage classes.

import { IS_DEFAULT_CLASS } from '#k8s/storage.ts';
import { AGE, column, NAME } from './columns.ts';
import type { Column } from './kind.ts';
import { type ApiObject, at } from './object.ts';

const SHORT_MODES: Readonly<Record<string, string>> = {
  ReadWriteOnce: 'RWO',
  ReadOnlyMany: 'ROX',
  ReadWriteMany: 'RWX',
  ReadWriteOncePod: 'RWOP',
};
const text = (object: ApiObject, ...path: string[]): string => String(at(object, ...path) ?? '');

/** In this order, whatever that of the list. */
function modes(value: unknown): string {
  const held = Array.isArray(value) ? value : [];
  return Object.keys(SHORT_MODES)
    .filter((mode) => held.includes(mode))
    .map((mode) => SHORT_MODES[mode])
    .join(',');
}

const STATUS = column('Status', (object) =>
  object.metadata.deletionTimestamp === undefined ? text(object, 'status', 'phase') : 'Terminating',
);
const CLASS = column('StorageClass', (object) => text(object, 'spec', 'storageClassName'));
const ATTRIBUTES_CLASS = column('VolumeAttributesClass', (object) =>
  String(at(object, 'spec', 'volumeAttributesClassName') ?? '<unset>'),
);
const MODE = column('VolumeMode', (object) => String(at(object, 'spec', 'volumeMode') ?? '<unset>'), {
  wide: true,
});

const isBound = (claim: ApiObject): boolean => text(claim, 'spec', 'volumeName') !== '';

export const CLAIM_COLUMNS: readonly Column[] = [
  NAME,
  STATUS,
  column('Volume', (object) => text(object, 'spec', 'volumeName')),
  column('Capacity', (object) => (isBound(object) ? text(object, 'status', 'capacity', 'storage') : '')),
  column('Access Modes', (object) => (isBound(object) ? modes(at(object, 'status', 'accessModes')) : '')),
  CLASS,
  ATTRIBUTES_CLASS,
  AGE,
  MODE,
];

export const VOLUME_COLUMNS: readonly Column[] = [
  NAME,
  column('Capacity', (object) => text(object, 'spec', 'capacity', 'storage')),
  column('Access Modes', (object) => modes(at(object, 'spec', 'accessModes'))),
  column('Reclaim Policy', (object) => text(object, 'spec', 'persistentVolumeReclaimPolicy')),
  STATUS,
  column('Claim', (object) => {
    const [namespace, name] = ['namespace', 'name'].map((field) => text(object, 'spec', 'claimRef', field));
    return name === '' ? '' : `${namespace}/${name}`;
  }),
  CLASS,
  ATTRIBUTES_CLASS,
  column('Reason', (object) => text(object, 'status', 'reason')),
  AGE,
  MODE,
];

export const STORAGE_CLASS_COLUMNS: readonly Column[] = [
  column('Name', ({ metadata }) =>
    metadata.annotations?.[IS_DEFAULT_CLASS] === 'true' ? `${metadata.name} (default)` : metadata.name,
  ),
  column('Provisioner', (object) => text(object, 'provisioner')),
  column('ReclaimPolicy', (object) => text(object, 'reclaimPolicy')),
  column('VolumeBindingMode', (object) => text(object, 'volumeBindingMode')),
  column('AllowVolumeExpansion', (object) => String(object.allowVolumeExpansion ?? false)),
  AGE,
];
