// Every object by uid, and who names it as an owner.

import { objectKey } from '#k8s/informer.ts';
import type { KubeObject, Resource } from '#k8s/objects.ts';

export interface IndexedObject {
  readonly resource: Resource;
  /** As informers name it. */
  readonly key: string;
}

export interface OwnerIndex {
  put(resource: Resource, object: KubeObject): void;
  drop(uid: string): void;
  get(uid: string): IndexedObject | undefined;
  /** Uids, of owners that never existed too. */
  dependentsOf(ownerUid: string): string[];
}

export function createOwnerIndex(): OwnerIndex {
  const objects = new Map<string, IndexedObject & { readonly owners: readonly string[] }>();
  const dependents = new Map<string, Set<string>>();

  const unlink = (uid: string): void => {
    for (const owner of objects.get(uid)?.owners ?? []) {
      const set = dependents.get(owner);
      set?.delete(uid);
      if (set?.size === 0) dependents.delete(owner);
    }
  };
  return {
    put(resource, object) {
      const { uid = '', ownerReferences = [] } = object.metadata;
      unlink(uid);
      const owners = ownerReferences.map((owner) => owner.uid);
      objects.set(uid, { resource, key: objectKey(object), owners });
      for (const owner of owners) {
        const set = dependents.get(owner) ?? new Set();
        dependents.set(owner, set.add(uid));
      }
    },
    drop(uid) {
      unlink(uid);
      objects.delete(uid);
    },
    get: (uid) => objects.get(uid),
    dependentsOf: (ownerUid) => [...(dependents.get(ownerUid) ?? [])],
  };
}
