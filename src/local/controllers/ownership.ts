// Who controls whom: `ownerReferences` with `controller: true`, adoption of orphans, and the queue keys of owners.

import type { KubeClient } from '#k8s/client.ts';
import { type Informer, objectKey } from '#k8s/informer.ts';
import type { KubeObject, LabelSelector, ObjectMeta, OwnerReference, Resource } from '#k8s/objects.ts';
import { groupVersionOf } from '#k8s/path.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import type { WorkQueue } from './queue.ts';

export const controllerOf = (object: { readonly metadata: ObjectMeta }): OwnerReference | undefined =>
  object.metadata.ownerReferences?.find(({ controller }) => controller === true);

export const isControlledBy = (object: KubeObject, owner: KubeObject): boolean =>
  controllerOf(object)?.uid === owner.metadata.uid;

export function controllerReference(resource: Resource, owner: KubeObject): OwnerReference {
  return {
    apiVersion: groupVersionOf(resource),
    kind: resource.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid ?? '',
    controller: true,
    blockOwnerDeletion: true,
  };
}

type Selecting = KubeObject & { readonly spec: { readonly selector: LabelSelector } };

/** Brings the owner's key into the queue whenever something it controls, or could adopt, changes. */
export function followDependents<T extends KubeObject, Owner extends Selecting>(
  dependents: Informer<T>,
  owners: { readonly resource: Resource<Owner>; readonly informer: Informer<Owner> },
  queue: WorkQueue,
): void {
  const enqueue = (object: T): void => {
    const { namespace } = object.metadata;
    const controller = controllerOf(object);
    if (controller !== undefined) {
      if (controller.kind === owners.resource.kind) queue.add(`${namespace}/${controller.name}`);
      return;
    }
    for (const owner of owners.informer.all())
      if (
        owner.metadata.namespace === namespace &&
        matchesSelector(owner.spec.selector, object.metadata.labels)
      )
        queue.add(objectKey(owner));
  };
  dependents.addHandlers({
    upsert(object, old) {
      if (old !== undefined && controllerOf(old)?.uid !== controllerOf(object)?.uid) enqueue(old);
      enqueue(object);
    },
    remove: enqueue,
  });
}

/**
 * What the owner controls in its namespace, after adopting what matches its selector and belongs to nobody.
 * An owner with an empty selector adopts nothing.
 */
export async function claimDependents<T extends KubeObject>(
  client: KubeClient,
  resource: Resource<T>,
  dependents: Informer<T>,
  owners: Resource,
  owner: Selecting,
): Promise<T[]> {
  const claimed: T[] = [];
  const { selector } = owner.spec;
  const selects =
    Object.keys(selector.matchLabels ?? {}).length + (selector.matchExpressions ?? []).length > 0;
  for (const object of [...dependents.all()]) {
    const { metadata } = object;
    if (metadata.namespace !== owner.metadata.namespace) continue;
    if (isControlledBy(object, owner)) claimed.push(object);
    else if (
      selects &&
      controllerOf(object) === undefined &&
      metadata.deletionTimestamp === undefined &&
      matchesSelector(selector, metadata.labels)
    ) {
      const ownerReferences = [...(metadata.ownerReferences ?? []), controllerReference(owners, owner)];
      claimed.push(
        await client.patch(
          resource,
          metadata.name,
          'merge',
          { metadata: { uid: metadata.uid, resourceVersion: metadata.resourceVersion, ownerReferences } },
          metadata.namespace === undefined ? {} : { namespace: metadata.namespace },
        ),
      );
    }
  }
  return claimed;
}
