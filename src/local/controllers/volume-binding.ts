// Claims and volumes (pure): which volume a claim gets, and what claims mean for the placement of a pod. By the rules of
// Kubernetes' volume controller and of its scheduler.

import type { Node, Pod } from '#k8s/objects.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import {
  NO_PROVISIONER,
  type PersistentVolume,
  type PersistentVolumeClaim,
  SELECTED_NODE,
  type StorageClass,
} from '#k8s/storage.ts';
import { parseQuantity } from '#local/kubelet/quantity.ts';
import { reachesNode } from './node-affinity.ts';

export const isBound = ({ spec, status }: PersistentVolumeClaim): boolean =>
  (spec.volumeName ?? '') !== '' && status?.phase === 'Bound';

export const isClaimOf = (claim: PersistentVolumeClaim, { spec: { claimRef } }: PersistentVolume): boolean =>
  claimRef !== undefined &&
  claimRef.namespace === claim.metadata.namespace &&
  claimRef.name === claim.metadata.name &&
  // One that a person made for a claim to come knows no uid yet.
  ((claimRef.uid ?? '') === '' || claimRef.uid === claim.metadata.uid);

const amount = (of: Readonly<Record<string, string>> = {}): number => parseQuantity(of.storage ?? '0') ?? 0;

/** The claim was given more than its volume counts: the API server lets that pass where the class allows it. */
export const hasGrown = ({ spec }: PersistentVolumeClaim, volume: PersistentVolume): boolean =>
  amount(spec.resources?.requests) > amount(volume.spec.capacity);

/** Why the volume cannot serve the claim; undefined when it can. */
export function mismatch(claim: PersistentVolumeClaim, volume: PersistentVolume): string | undefined {
  const { spec } = claim;
  if (amount(volume.spec.capacity) < amount(spec.resources?.requests)) return 'requested PV is too small';
  if ((volume.spec.storageClassName ?? '') !== (spec.storageClassName ?? ''))
    return 'storageClassName does not match';
  if ((volume.spec.volumeMode ?? 'Filesystem') !== (spec.volumeMode ?? 'Filesystem'))
    return 'incompatible volumeMode';
  const offered = volume.spec.accessModes ?? [];
  if (!(spec.accessModes ?? []).every((mode) => offered.includes(mode))) return 'incompatible accessMode';
  return undefined;
}

/** The volume made for this claim, or else the smallest free one that serves it (and can be reached from the node, if given). */
export function volumeFor(
  claim: PersistentVolumeClaim,
  volumes: Iterable<PersistentVolume>,
  { onlyMadeForIt = false, node }: { readonly onlyMadeForIt?: boolean; readonly node?: Node } = {},
): PersistentVolume | undefined {
  const usable = [...volumes].filter(
    (volume) =>
      volume.metadata.deletionTimestamp === undefined &&
      mismatch(claim, volume) === undefined &&
      (node === undefined || reachesNode(volume, node)),
  );
  const madeForIt = usable.find((volume) => isClaimOf(claim, volume));
  if (madeForIt !== undefined || onlyMadeForIt) return madeForIt;
  return usable
    .filter(
      ({ spec, status, metadata }) =>
        spec.claimRef === undefined &&
        status?.phase === 'Available' &&
        (claim.spec.selector === undefined || matchesSelector(claim.spec.selector, metadata.labels)),
    )
    .sort((a, b) => amount(a.spec.capacity) - amount(b.spec.capacity) || byName(a, b))[0];
}
const byName = (a: PersistentVolume, b: PersistentVolume): number =>
  a.metadata.name < b.metadata.name ? -1 : 1;

export const claimNames = ({ spec }: Pod): string[] =>
  (spec.volumes ?? []).flatMap(({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName ?? []);

export interface StorageView {
  claim(namespace: string, name: string): PersistentVolumeClaim | undefined;
  volume(name: string): PersistentVolume | undefined;
  volumes(): Iterable<PersistentVolume>;
  storageClass(name: string): StorageClass | undefined;
}

export type VolumeNeeds =
  /** No node will do. */
  | { readonly kind: 'none'; readonly reason: string }
  /** A node was chosen for the pod; its volumes are on their way. */
  | { readonly kind: 'binding' }
  | {
      readonly kind: 'some';
      readonly refuse: (node: Node) => string | undefined;
      /** To be told the node that is chosen; the pod goes there when they are bound. */
      readonly unbound: readonly PersistentVolumeClaim[];
    };

/** What the pod's claims say about nodes. */
export function volumeNeeds(pod: Pod, view: StorageView): VolumeNeeds {
  const namespace = pod.metadata.namespace ?? '';
  const claims: PersistentVolumeClaim[] = [];
  for (const name of claimNames(pod)) {
    const claim = view.claim(namespace, name);
    if (claim === undefined) return none(`persistentvolumeclaim "${name}" not found`);
    if (claim.metadata.deletionTimestamp !== undefined)
      return none(`persistentvolumeclaim "${name}" is being deleted`);
    if (claim.status?.phase === 'Lost')
      return none(
        `persistentvolumeclaim "${name}" bound to non-existent persistentvolume "${claim.spec.volumeName}"`,
      );
    claims.push(claim);
  }
  const unbound = claims.filter((claim) => !isBound(claim));
  if (unbound.some((claim) => !waitsForConsumer(claim, view)))
    return none('pod has unbound immediate PersistentVolumeClaims');
  if (unbound.some(({ metadata }) => metadata.annotations?.[SELECTED_NODE] !== undefined))
    return { kind: 'binding' };
  return {
    kind: 'some',
    unbound,
    refuse: (node) => {
      for (const claim of claims) {
        if (isBound(claim)) {
          const volume = view.volume(claim.spec.volumeName ?? '');
          if (volume === undefined)
            return 'node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)';
          if (!reachesNode(volume, node)) return "node(s) didn't match PersistentVolume's node affinity";
        } else if (
          view.storageClass(claim.spec.storageClassName ?? '')?.provisioner === NO_PROVISIONER &&
          volumeFor(claim, view.volumes(), { node }) === undefined
        )
          return "node(s) didn't find available persistent volumes to bind";
      }
      return undefined;
    },
  };
}
const none = (reason: string): VolumeNeeds => ({ kind: 'none', reason });

/** A claim that names a volume is bound at once, whatever its class. */
export function waitsForConsumer(
  { spec }: PersistentVolumeClaim,
  { storageClass }: Pick<StorageView, 'storageClass'>,
): boolean {
  return (
    (spec.volumeName ?? '') === '' &&
    storageClass(spec.storageClassName ?? '')?.volumeBindingMode === 'WaitForFirstConsumer'
  );
}
