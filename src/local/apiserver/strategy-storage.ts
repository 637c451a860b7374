// Rules of PersistentVolumeClaim, PersistentVolume and StorageClass: defaults, the class that a claim gets which names none,
// what must be said and what stands.

import { IS_DEFAULT_CLASS } from '#k8s/storage.ts';
import { parseQuantity } from '#local/kubelet/quantity.ts';
import type { Strategy, StrategyContext } from './kind.ts';
import { type ApiObject, at, equal, isObject, type JsonObject } from './object.ts';
import { type FieldError, fieldForbidden, forbidden, invalid, notSupported, required } from './status.ts';
import { resourceKey } from './store.ts';

const STORAGE_CLASSES = resourceKey('storage.k8s.io', 'storageclasses');
const CLAIM = { group: '', plural: 'persistentvolumeclaims', kind: 'PersistentVolumeClaim' };
const ACCESS_MODES = ['ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod'];
const VOLUME_MODES = ['Block', 'Filesystem'];
const RECLAIM_POLICIES = ['Delete', 'Recycle', 'Retain'];
const BINDING_MODES = ['Immediate', 'WaitForFirstConsumer'];
/** What a PersistentVolume's spec has beside the one source of its data. */
const NO_SOURCE = [
  'accessModes',
  'capacity',
  'claimRef',
  'mountOptions',
  'nodeAffinity',
  'persistentVolumeReclaimPolicy',
  'storageClassName',
  'volumeAttributesClassName',
  'volumeMode',
];

const specOf = (object: ApiObject): JsonObject => {
  if (!isObject(object.spec)) object.spec = {};
  return object.spec as JsonObject;
};

/** The StorageObjectInUseProtection admission plugin: what is in use does not vanish. */
function protect(object: ApiObject, finalizer: string): void {
  const present = object.metadata.finalizers ?? [];
  if (!present.includes(finalizer)) object.metadata.finalizers = [...present, finalizer];
}

/** Also of the templates of a StatefulSet. */
export function defaultClaim(claim: JsonObject): void {
  if (isObject(claim.spec)) claim.spec.volumeMode ??= 'Filesystem';
}

export const claimStrategy: Strategy = {
  generation: false,
  nameRule: 'subdomain',
  defaults: (object) => {
    specOf(object);
    defaultClaim(object);
  },
  prepareCreate: (object, context) => {
    const spec = specOf(object);
    const usual = defaultClass(context);
    if (spec.storageClassName === undefined && usual !== undefined) spec.storageClassName = usual;
    protect(object, 'kubernetes.io/pvc-protection');
    object.status = { phase: 'Pending' };
  },
  prepareUpdate: (object, old, { store }) => {
    const [now, before] = [object, old].map((each) => storageOf(each));
    if (now === undefined || before === undefined || now <= before) return;
    const name = at(object, 'spec', 'storageClassName');
    const storageClass = store.get(STORAGE_CLASSES, undefined, String(name ?? ''))?.object;
    if (storageClass?.allowVolumeExpansion !== true)
      throw forbidden(
        CLAIM,
        object.metadata.name,
        'only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize',
      );
  },
  validate: (object, old) => {
    const errors = validateClaimSpec(at(object, 'spec'), 'spec');
    if (old !== undefined) errors.push(...claimChange(object, old));
    return errors;
  },
};

const storageOf = (claim: JsonObject): number | undefined => {
  const text = at(claim, 'spec', 'resources', 'requests', 'storage');
  return text === undefined ? undefined : parseQuantity(String(text));
};

/** The DefaultStorageClass admission plugin: of several the newest. */
function defaultClass({ store }: StrategyContext): string | undefined {
  return store
    .list(STORAGE_CLASSES)
    .map(({ object }) => object as ApiObject)
    .filter(({ metadata }) => metadata.annotations?.[IS_DEFAULT_CLASS] === 'true')
    .sort((a, b) => ageKey(a).localeCompare(ageKey(b)))
    .at(-1)?.metadata.name;
}
const ageKey = ({ metadata }: ApiObject): string => `${metadata.creationTimestamp ?? ''} ${metadata.name}`;

function accessModes(modes: unknown, path: string, what: string): FieldError[] {
  if (!Array.isArray(modes) || modes.length === 0) return [required(path, what)];
  return modes
    .filter((mode) => !ACCESS_MODES.includes(String(mode)))
    .map((mode: unknown) => notSupported(path, mode, ACCESS_MODES));
}

export function validateClaimSpec(spec: unknown, path: string): FieldError[] {
  const errors = accessModes(
    at(spec, 'accessModes'),
    `${path}.accessModes`,
    'at least 1 access mode is required',
  );
  const storage = at(spec, 'resources', 'requests', 'storage');
  if (storage === undefined) errors.push(required(`${path}.resources[storage]`));
  else if (!((parseQuantity(String(storage)) ?? 0) > 0))
    errors.push(invalid(`${path}.resources[storage]`, storage, 'must be greater than zero'));
  const mode = at(spec, 'volumeMode');
  if (mode !== undefined && !VOLUME_MODES.includes(String(mode)))
    errors.push(notSupported(`${path}.volumeMode`, mode, VOLUME_MODES));
  return errors;
}

function claimChange(object: ApiObject, old: ApiObject): FieldError[] {
  const isBound = at(old, 'status', 'phase') === 'Bound';
  const fixed = (claim: ApiObject): JsonObject => {
    const spec: JsonObject = { ...(claim.spec as JsonObject) };
    if (isBound) {
      delete spec.resources;
      delete spec.volumeAttributesClassName;
    }
    // It is given once; a class may be given late.
    for (const name of ['volumeName', 'storageClassName'])
      if (at(old, 'spec', name) === undefined) delete spec[name];
    return spec;
  };
  if (!equal(fixed(object), fixed(old)))
    return [
      fieldForbidden(
        'spec',
        'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
      ),
    ];
  const [now = 0, before = 0] = [object, old].map((each) => storageOf(each));
  return now < before
    ? [fieldForbidden('spec.resources.requests.storage', 'field can not be less than previous value')]
    : [];
}

const sourcesOf = (spec: JsonObject): string[] =>
  Object.keys(spec).filter((name) => !NO_SOURCE.includes(name));

export const volumeStrategy: Strategy = {
  generation: false,
  nameRule: 'subdomain',
  defaults: (object) => {
    const spec = specOf(object);
    spec.persistentVolumeReclaimPolicy ??= 'Retain';
    spec.volumeMode ??= 'Filesystem';
    if (isObject(spec.hostPath)) spec.hostPath.type ??= '';
  },
  prepareCreate: (object) => {
    protect(object, 'kubernetes.io/pv-protection');
    object.status = { phase: 'Pending' };
  },
  validate: (object, old) => {
    const spec = specOf(object);
    const errors: FieldError[] = accessModes(spec.accessModes, 'spec.accessModes', '');
    if (at(spec, 'capacity', 'storage') === undefined) errors.push(required('spec.capacity'));
    const policy = spec.persistentVolumeReclaimPolicy;
    if (!RECLAIM_POLICIES.includes(String(policy)))
      errors.push(notSupported('spec.persistentVolumeReclaimPolicy', policy, RECLAIM_POLICIES));
    if (!VOLUME_MODES.includes(String(spec.volumeMode)))
      errors.push(notSupported('spec.volumeMode', spec.volumeMode, VOLUME_MODES));
    const sources = sourcesOf(spec);
    if (sources.length === 0) errors.push(required('spec', 'must specify a volume type'));
    for (const source of sources.slice(1))
      errors.push(fieldForbidden(`spec.${source}`, 'may not specify more than 1 volume type'));
    if (spec.local !== undefined && spec.nodeAffinity === undefined)
      errors.push(required('metadata.annotations', 'Local volume requires node affinity'));
    if (old === undefined) return errors;
    const before = specOf(old);
    const source = (of: JsonObject): JsonObject =>
      Object.fromEntries(sourcesOf(of).map((name) => [name, of[name]]));
    if (!equal(source(spec), source(before)))
      errors.push(
        fieldForbidden(
          'spec.persistentvolumesource',
          'spec.persistentvolumesource is immutable after creation',
        ),
      );
    if (!equal(spec.volumeMode, before.volumeMode))
      errors.push(invalid('spec.volumeMode', spec.volumeMode, 'field is immutable'));
    if (before.nodeAffinity !== undefined && !equal(spec.nodeAffinity, before.nodeAffinity))
      errors.push(invalid('spec.nodeAffinity', spec.nodeAffinity, 'field is immutable'));
    return errors;
  },
};

export const storageClassStrategy: Strategy = {
  generation: false,
  nameRule: 'subdomain',
  defaults: (object) => {
    object.reclaimPolicy ??= 'Delete';
    object.volumeBindingMode ??= 'Immediate';
  },
  validate: (object, old) => {
    const errors: FieldError[] = [];
    if (typeof object.provisioner !== 'string' || object.provisioner === '')
      errors.push(required('provisioner'));
    const policies = RECLAIM_POLICIES.filter((policy) => policy !== 'Recycle');
    if (!policies.includes(String(object.reclaimPolicy)))
      errors.push(notSupported('reclaimPolicy', object.reclaimPolicy, policies));
    if (!BINDING_MODES.includes(String(object.volumeBindingMode)))
      errors.push(notSupported('volumeBindingMode', object.volumeBindingMode, BINDING_MODES));
    if (old === undefined) return errors;
    for (const field of ['parameters', 'provisioner', 'reclaimPolicy'])
      if (!equal(object[field], old[field]))
        errors.push(fieldForbidden(field, `updates to ${field} are forbidden.`));
    if (object.volumeBindingMode !== old.volumeBindingMode)
      errors.push(invalid('volumeBindingMode', object.volumeBindingMode, 'field is immutable'));
    return errors;
  },
};
