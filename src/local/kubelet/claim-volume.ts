// The volume behind a pod's claim, as a path of its node; or why there is none yet.

import type { Pod } from '#k8s/objects.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '#k8s/storage.ts';
import { reachesNode } from '#local/controllers/node-affinity.ts';
import { isBound, isClaimOf } from '#local/controllers/volume-binding.ts';

export interface ClaimSource {
  claim(namespace: string, name: string): PersistentVolumeClaim | undefined;
  persistentVolume(name: string): PersistentVolume | undefined;
}

export type ClaimVolume =
  | { readonly kind: 'path'; readonly path: string; readonly type: string }
  | { readonly kind: 'waiting'; readonly message: string };

const waiting = (message: string): ClaimVolume => ({ kind: 'waiting', message });

/** Only sources that are directories of a node exist here. */
export function claimVolume(
  pod: Pod,
  claimName: string,
  source: ClaimSource,
  node: Parameters<typeof reachesNode>[1],
): ClaimVolume {
  const namespace = pod.metadata.namespace ?? 'default';
  const claim = source.claim(namespace, claimName);
  if (claim === undefined) return waiting(`persistentvolumeclaim "${claimName}" not found`);
  if (!isBound(claim)) return waiting(`persistentvolumeclaim "${claimName}" is not bound to a volume`);
  const { volumeName = '' } = claim.spec;
  const volume = source.persistentVolume(volumeName);
  if (volume === undefined || !isClaimOf(claim, volume))
    return waiting(`persistentvolume "${volumeName}" of claim "${claimName}" not found`);
  // On another node the same path would be another directory, and an empty one.
  if (!reachesNode(volume, node))
    return waiting(
      `persistentvolume "${volumeName}" cannot be reached from node ${node.metadata.name} (its nodeAffinity)`,
    );
  if (volume.spec.volumeMode === 'Block')
    return waiting(
      `persistentvolume "${volumeName}" is a block device, which local mode does not give to pods`,
    );
  const { hostPath, local } = volume.spec;
  if (hostPath !== undefined) return { kind: 'path', path: hostPath.path, type: hostPath.type ?? '' };
  if (local !== undefined) return { kind: 'path', path: local.path, type: 'Directory' };
  return waiting(
    `persistentvolume "${volumeName}" is neither hostPath nor local; other kinds do not exist in local mode`,
  );
}
