// How lists of built-in kinds are merged: by a key, as a set of plain values, or not at all (replaced whole).

export type ListMerge =
  | { readonly kind: 'atomic' }
  | { readonly kind: 'set' }
  | { readonly kind: 'map'; readonly key: string };

const ATOMIC: ListMerge = { kind: 'atomic' };
const byKey = (key: string): ListMerge => ({ kind: 'map', key });

/** By the last field of the path; the parent decides where one name has two meanings. */
const BY_FIELD: Readonly<Record<string, ListMerge>> = {
  containers: byKey('name'),
  initContainers: byKey('name'),
  ephemeralContainers: byKey('name'),
  env: byKey('name'),
  volumes: byKey('name'),
  volumeMounts: byKey('mountPath'),
  volumeDevices: byKey('devicePath'),
  imagePullSecrets: byKey('name'),
  hostAliases: byKey('ip'),
  topologySpreadConstraints: byKey('topologyKey'),
  resourceClaims: byKey('name'),
  conditions: byKey('type'),
  podIPs: byKey('ip'),
  ownerReferences: byKey('uid'),
  finalizers: { kind: 'set' },
  podCIDRs: { kind: 'set' },
  secrets: byKey('name'),
};

const NODE_STATUS: Readonly<Record<string, ListMerge>> = { addresses: byKey('type') };
const IN_CONTAINER = new Set(['containers', 'initContainers', 'ephemeralContainers']);

/** `path` holds field names from the root, list positions left out: `['spec', 'containers', 'ports']`. */
export function listMerge(kind: string, path: readonly string[]): ListMerge {
  const name = path.at(-1) ?? '';
  const parent = path.at(-2) ?? '';
  if (name === 'ports') {
    if (IN_CONTAINER.has(parent)) return byKey('containerPort');
    return kind === 'Service' && parent === 'spec' ? byKey('port') : ATOMIC;
  }
  if (kind === 'Node' && parent === 'status' && Object.hasOwn(NODE_STATUS, name)) return NODE_STATUS[name]!;
  // Only an own entry: a field may well be called `constructor`.
  return Object.hasOwn(BY_FIELD, name) ? BY_FIELD[name]! : ATOMIC;
}
