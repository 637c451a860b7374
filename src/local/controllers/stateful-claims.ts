// The claims of a StatefulSet's pods (pure): each pod has one of every template, under a name that it keeps for life, and they
// stay or go with it or with the set.

import type { OwnerReference, Pod, PodSpec, StatefulSet } from '#k8s/objects.ts';
import { PODS, STATEFUL_SETS } from '#k8s/objects.ts';
import { groupVersionOf } from '#k8s/path.ts';
import { PERSISTENT_VOLUME_CLAIMS, type PersistentVolumeClaim } from '#k8s/storage.ts';

const claimName = (template: string, set: StatefulSet, ordinal: number): string =>
  `${template}-${set.metadata.name}-${ordinal}`;

export function claimsFor(set: StatefulSet, ordinal: number): PersistentVolumeClaim[] {
  return (set.spec.volumeClaimTemplates ?? []).map(({ metadata, spec }) => ({
    apiVersion: 'v1',
    kind: PERSISTENT_VOLUME_CLAIMS.kind,
    metadata: {
      name: claimName(metadata.name, set, ordinal),
      namespace: set.metadata.namespace ?? '',
      labels: { ...metadata.labels, ...set.spec.selector.matchLabels },
      ...(metadata.annotations === undefined ? {} : { annotations: metadata.annotations }),
    },
    spec: spec as PersistentVolumeClaim['spec'],
  }));
}

/** A claim takes the place of a volume of its template's name. */
export function withClaims(
  { volumes = [] }: Pick<PodSpec, 'volumes'>,
  set: StatefulSet,
  ordinal: number,
): Pick<PodSpec, 'volumes'> {
  const templates = (set.spec.volumeClaimTemplates ?? []).map(({ metadata }) => metadata.name);
  if (templates.length === 0) return {};
  const claimed = templates.map((name) => ({
    name,
    persistentVolumeClaim: { claimName: claimName(name, set, ordinal) },
  }));
  return { volumes: [...claimed, ...volumes.filter(({ name }) => !templates.includes(name))] };
}

/**
 * The owners that the claim should have, undefined when it has them. With the set, by `whenDeleted: Delete`; with its pod, by
 * `whenScaled: Delete` once the pod is one too many. Owners that others gave it stay.
 */
export function claimOwners(
  { metadata }: PersistentVolumeClaim,
  set: StatefulSet,
  of: { readonly pod: Pod; readonly ordinal: number },
): OwnerReference[] | undefined {
  const { whenDeleted = 'Retain', whenScaled = 'Retain' } =
    set.spec.persistentVolumeClaimRetentionPolicy ?? {};
  const start = set.spec.ordinals?.start ?? 0;
  const isSurplus = of.ordinal < start || of.ordinal >= start + (set.spec.replicas ?? 1);
  const wanted: OwnerReference[] = [];
  if (whenScaled === 'Delete' && isSurplus) wanted.push(reference('v1', PODS.kind, of.pod));
  else if (whenDeleted === 'Delete')
    wanted.push(reference(groupVersionOf(STATEFUL_SETS), STATEFUL_SETS.kind, set));
  const uids = [set.metadata.uid, of.pod.metadata.uid];
  const present = metadata.ownerReferences ?? [];
  const ours = present.filter(({ uid }) => uids.includes(uid));
  if (String(ours.map(({ uid }) => uid)) === String(wanted.map(({ uid }) => uid))) return undefined;
  return [...present.filter(({ uid }) => !uids.includes(uid)), ...wanted];
}

const reference = (apiVersion: string, kind: string, { metadata }: Pod | StatefulSet): OwnerReference => ({
  apiVersion,
  kind,
  name: metadata.name,
  uid: metadata.uid ?? '',
});
