// The garbage collector: what is owned by nothing that exists is deleted; dangling references among good ones are removed;
// the finalizers `orphan` and `foregroundDeletion` of an ending owner are carried out. Watches every kind there is.

import { createResourceFinder, discoverAll } from '#k8s/discovery.ts';
import { objectKey } from '#k8s/informer.ts';
import { CUSTOM_RESOURCE_DEFINITIONS } from '#k8s/mesh-objects.ts';
import { EVENTS, type KubeObject, type OwnerReference, type Resource } from '#k8s/objects.ts';
import { isConflict, isNotFound } from '#k8s/status.ts';
import type { ControllerContext } from './context.ts';
import { createOwnerIndex, type IndexedObject } from './owner-index.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';

const ORPHAN = 'orphan';
const FOREGROUND = 'foregroundDeletion';
const DISCOVER = 'discover';
/** A new definition may be served a moment after it is stored. */
const REDISCOVER_MS = 1_000;

/**
 * `waiting`: the owner goes as soon as its dependents are gone. `unknown`: it cannot be found out, so nothing is deleted.
 */
type OwnerState = 'present' | 'absent' | 'waiting' | 'unknown';

export function createGarbageCollector(context: ControllerContext): WorkQueue {
  const { client, informers, log } = context;
  const findResource = createResourceFinder(client);
  const index = createOwnerIndex();
  const followed = new Map<string, Resource>();

  const follow = (resource: Resource): void => {
    informers.of(resource).addHandlers({
      upsert(object) {
        index.put(resource, object);
        const { uid = '', ownerReferences = [] } = object.metadata;
        if (ownerReferences.length > 0) queue.add(dependentKey(uid));
        if (isWaitingFor(object, ORPHAN) || isWaitingFor(object, FOREGROUND)) queue.add(ownerKey(uid));
      },
      remove(object) {
        const { uid = '', ownerReferences = [] } = object.metadata;
        index.drop(uid);
        for (const dependent of index.dependentsOf(uid)) queue.add(dependentKey(dependent));
        for (const owner of ownerReferences)
          if (index.get(owner.uid) !== undefined) queue.add(ownerKey(owner.uid));
      },
    });
  };

  const discover = async (): Promise<void> => {
    const served = new Map<string, Resource>();
    for (const { verbs, ...resource } of await discoverAll(client))
      if (verbs.includes('watch') && verbs.includes('delete') && resource.plural !== EVENTS.plural)
        served.set(`${resource.plural}.${resource.group}`, resource);
    for (const [key, resource] of followed)
      if (!served.has(key)) {
        informers.drop(resource);
        followed.delete(key);
      }
    for (const [key, resource] of served)
      if (!followed.has(key)) {
        followed.set(key, resource);
        follow(resource);
      }
  };

  const stateOf = async (owner: OwnerReference, dependent: KubeObject): Promise<OwnerState> => {
    const indexed = index.get(owner.uid);
    if (indexed !== undefined) return isWaitingFor(held(indexed), FOREGROUND) ? 'waiting' : 'present';
    // The copy may be behind: only the server's own word deletes anything.
    const resource = await findResource(owner);
    const { namespace } = dependent.metadata;
    if (resource === undefined || (resource.namespaced && namespace === undefined)) return 'unknown';
    try {
      const found = await client.get(resource, owner.name, resource.namespaced ? namespace : undefined);
      return found.metadata.uid === owner.uid ? 'present' : 'absent';
    } catch (error) {
      if (isNotFound(error)) return 'absent';
      throw error;
    }
  };

  const held = ({ resource, key }: IndexedObject): KubeObject | undefined => informers.of(resource).get(key);

  const patchMeta = async (resource: Resource, object: KubeObject, changes: object): Promise<void> => {
    const { name, namespace, resourceVersion } = object.metadata;
    try {
      await client.patch(
        resource,
        name,
        'merge',
        { metadata: { resourceVersion, ...changes } },
        namespace === undefined ? {} : { namespace },
      );
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  };

  const collect = async ({ resource }: IndexedObject, object: KubeObject): Promise<void> => {
    const { name, namespace, uid } = object.metadata;
    log.debug(`garbage: ${resource.kind} ${objectKey(object)} has no owner left`);
    try {
      await client.delete(resource, name, {
        propagation: 'Background',
        ...(namespace === undefined ? {} : { namespace }),
        ...(uid === undefined ? {} : { uid }),
      });
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  };

  const reconcileDependent = async (uid: string): Promise<void> => {
    const indexed = index.get(uid);
    const object = indexed === undefined ? undefined : held(indexed);
    if (indexed === undefined || object === undefined || object.metadata.uid !== uid) return;
    const { ownerReferences = [], deletionTimestamp } = object.metadata;
    if (ownerReferences.length === 0 || deletionTimestamp !== undefined) return;
    const states = await Promise.all(ownerReferences.map((owner) => stateOf(owner, object)));
    const holds = (state: OwnerState | undefined): boolean => state === 'present' || state === 'unknown';
    if (!states.some(holds)) await collect(indexed, object);
    else if (states.includes('absent'))
      await patchMeta(indexed.resource, object, {
        ownerReferences: ownerReferences.filter((_, position) => states[position] !== 'absent'),
      });
  };

  const reconcileOwner = async (uid: string): Promise<void> => {
    const indexed = index.get(uid);
    const owner = indexed === undefined ? undefined : held(indexed);
    if (indexed === undefined || owner === undefined) return;
    const dependents = index
      .dependentsOf(uid)
      .map((dependent) => index.get(dependent))
      .filter((dependent) => dependent !== undefined);
    let finalizer: string;
    if (isWaitingFor(owner, ORPHAN)) {
      finalizer = ORPHAN;
      for (const dependent of dependents) await orphan(dependent, uid);
    } else if (isWaitingFor(owner, FOREGROUND)) {
      finalizer = FOREGROUND;
      let blocking = false;
      for (const dependent of dependents) {
        const object = held(dependent);
        if (object === undefined) continue;
        queue.add(dependentKey(object.metadata.uid ?? ''));
        blocking ||=
          object.metadata.ownerReferences?.some(
            (ref) => ref.uid === uid && ref.blockOwnerDeletion === true,
          ) ?? false;
      }
      // Each dependent that goes brings this owner here again.
      if (blocking) return;
    } else return;
    await patchMeta(indexed.resource, owner, {
      finalizers: (owner.metadata.finalizers ?? []).filter((name) => name !== finalizer),
    });
  };

  const orphan = async (dependent: IndexedObject, ownerUid: string): Promise<void> => {
    const object = held(dependent);
    if (object === undefined) return;
    const ownerReferences = (object.metadata.ownerReferences ?? []).filter((owner) => owner.uid !== ownerUid);
    await patchMeta(dependent.resource, object, {
      ownerReferences: ownerReferences.length === 0 ? null : ownerReferences,
    });
  };

  const queue = createWorkQueue({ log }, { name: 'garbage' }, async (key) => {
    if (key === DISCOVER) return discover();
    const [role, uid = ''] = key.split(' ');
    await (role === 'owner' ? reconcileOwner(uid) : reconcileDependent(uid));
  });
  const rediscover = (): void => {
    queue.add(DISCOVER);
    queue.addAfter(DISCOVER, REDISCOVER_MS);
  };
  informers.of(CUSTOM_RESOURCE_DEFINITIONS).addHandlers({
    upsert(object, old) {
      if (old?.metadata.generation !== object.metadata.generation || old === undefined) rediscover();
    },
    remove: rediscover,
  });
  queue.add(DISCOVER);
  return queue;
}

const dependentKey = (uid: string): string => `dependent ${uid}`;
const ownerKey = (uid: string): string => `owner ${uid}`;

const isWaitingFor = (object: KubeObject | undefined, finalizer: string): boolean =>
  object?.metadata.deletionTimestamp !== undefined &&
  (object.metadata.finalizers?.includes(finalizer) ?? false);
