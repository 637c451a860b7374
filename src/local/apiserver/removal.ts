// How objects leave: preconditions, graceful ends of pods, finalizers, the marks the garbage collector waits for.

import { acceptWaiting, endDefinition, finishDefinition } from './crd-removal.ts';
import type { Kind } from './kind.ts';
import { type ApiObject, at, equal, type JsonObject, kubeTime } from './object.ts';
import type { ObjectsDeps } from './objects.ts';
import { CRDS } from './registry.ts';
import { conflict, forbidden, invalid, invalidObject } from './status.ts';
import { resourceKey, type Stored } from './store.ts';

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: string;
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string };
  readonly dryRun: boolean;
}

export type DeleteResult =
  | { readonly kind: 'gone'; readonly object: ApiObject }
  /** Finalizers or a graceful end stand before the removal. */
  | { readonly kind: 'terminating'; readonly object: ApiObject };

const NAMESPACES = resourceKey('', 'namespaces');
const PODS = resourceKey('', 'pods');
/** Kubernetes never lets these go. */
const IMMORTAL_NAMESPACES: ReadonlySet<string> = new Set(['default', 'kube-system', 'kube-public']);

/** A deleted object leaves when nobody holds it any more. */
export function mayGo(kind: Kind, object: ApiObject): boolean {
  const { deletionTimestamp, finalizers = [], deletionGracePeriodSeconds = 0 } = object.metadata;
  if (deletionTimestamp === undefined || finalizers.length > 0 || deletionGracePeriodSeconds > 0)
    return false;
  if (kind.resource !== NAMESPACES) return true;
  const held = at(object, 'spec', 'finalizers');
  return !Array.isArray(held) || held.length === 0;
}

export function deleteObject(
  deps: ObjectsDeps,
  kind: Kind,
  stored: Stored,
  options: DeleteOptions,
): DeleteResult {
  const old = stored.object;
  const { name } = old.metadata;
  const { uid, resourceVersion } = options.preconditions ?? {};
  if (uid !== undefined && uid !== old.metadata.uid)
    throw conflict(
      kind,
      name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${old.metadata.uid}`,
    );
  if (resourceVersion !== undefined && resourceVersion !== old.metadata.resourceVersion)
    throw conflict(
      kind,
      name,
      `Precondition failed: ResourceVersion in precondition: ${resourceVersion}, ResourceVersion in object meta: ${old.metadata.resourceVersion}`,
    );
  if (kind.resource === NAMESPACES && IMMORTAL_NAMESPACES.has(name))
    throw forbidden(kind, name, 'this namespace may not be deleted');
  if (options.gracePeriodSeconds !== undefined && options.gracePeriodSeconds < 0)
    throw invalidObject(kind, name, [
      invalid('gracePeriodSeconds', options.gracePeriodSeconds, 'must be greater than or equal to 0'),
    ]);
  if (kind.resource === CRDS && !options.dryRun && old.metadata.deletionTimestamp === undefined) {
    const ending = endDefinition(deps, kind, stored, marked(deps, kind, old, options));
    if (ending !== undefined) return ending;
  }
  const next = marked(deps, kind, old, options);
  const gone = mayGo(kind, next);
  if (options.dryRun) return { kind: gone ? 'gone' : 'terminating', object: next };
  if (gone) return { kind: 'gone', object: removeStored(deps, kind, stored).object };
  if (equal(next, old)) return { kind: 'terminating', object: old };
  return { kind: 'terminating', object: deps.store.put(kind.resource, next).object };
}

/** The object with the marks of a deletion: when it ends, and what must happen first. */
function marked(deps: ObjectsDeps, kind: Kind, old: ApiObject, options: DeleteOptions): ApiObject {
  const next: ApiObject = { ...old, metadata: { ...old.metadata } };
  const meta = next.metadata;
  const graceSeconds = kind.resource === PODS ? podGraceSeconds(old, options) : 0;
  const first = meta.deletionTimestamp === undefined;
  if (first || graceSeconds < (meta.deletionGracePeriodSeconds ?? 0)) {
    // A second deletion may only shorten the first.
    meta.deletionTimestamp = kubeTime(deps.clock.now() + graceSeconds * 1000);
    meta.deletionGracePeriodSeconds = graceSeconds;
    if (first && meta.generation !== undefined) meta.generation++;
  }
  const wait = { Orphan: 'orphan', Foreground: 'foregroundDeletion' }[options.propagationPolicy ?? ''];
  if (first && wait !== undefined && hasDependents(deps, old))
    meta.finalizers = [...(meta.finalizers ?? []).filter((name) => name !== wait), wait];
  if (kind.resource === NAMESPACES) next.status = { ...(old.status as JsonObject), phase: 'Terminating' };
  return next;
}

function podGraceSeconds(pod: ApiObject, options: DeleteOptions): number {
  // Nothing runs yet, or nothing runs any more: there is nobody to wait for.
  const phase = at(pod, 'status', 'phase');
  if (!at(pod, 'spec', 'nodeName') || phase === 'Succeeded' || phase === 'Failed') return 0;
  return options.gracePeriodSeconds ?? Number(at(pod, 'spec', 'terminationGracePeriodSeconds') ?? 30);
}

/** The garbage collector has something to do first only where something depends on the object. */
function hasDependents({ store, registry }: ObjectsDeps, owner: ApiObject): boolean {
  const { uid } = owner.metadata;
  const resources = new Set(registry.kinds.map((kind) => kind.resource));
  for (const resource of resources)
    for (const { object } of store.list(resource))
      if (object.metadata.ownerReferences?.some((reference) => reference.uid === uid) === true) return true;
  return false;
}

export function removeStored(deps: ObjectsDeps, kind: Kind, stored: Stored): Stored {
  const { namespace, name } = stored.object.metadata;
  const removed = deps.store.remove(kind.resource, namespace, name) ?? stored;
  if (kind.schema !== undefined) finishDefinition(deps, `${kind.plural}.${kind.group}`);
  if (kind.resource === CRDS) acceptWaiting(deps, kind);
  return removed;
}
