// The end of a definition: its objects go first, each with what its finalizers ask for; until the last is gone the kind is
// served, takes nothing new, and says that it is terminating.

import { kindsOfCrd } from './crd.ts';
import { isEstablished } from './crd-names.ts';
import type { Kind } from './kind.ts';
import { type ApiObject, at, isObject, type JsonObject, kubeTime } from './object.ts';
import { type ObjectsDeps, updateObject } from './objects.ts';
import { CRDS } from './registry.ts';
import { type DeleteResult, deleteObject, removeStored } from './removal.ts';
import { StatusError } from './status.ts';
import { type ResourceKey, resourceKey, type Stored } from './store.ts';

const CLEANUP = 'customresourcecleanup.apiextensions.k8s.io';

const resourceOf = (crd: ApiObject): ResourceKey =>
  resourceKey(String(at(crd, 'spec', 'group')), String(at(crd, 'spec', 'names', 'plural')));

/** Undefined when there is nothing in the way of an ordinary removal. `marked` carries the deletion's time. */
export function endDefinition(
  deps: ObjectsDeps,
  kind: Kind,
  stored: Stored,
  marked: ApiObject,
): DeleteResult | undefined {
  const resource = resourceOf(stored.object);
  const instances = deps.store.list(resource);
  if (instances.length === 0) return undefined;
  marked.metadata.finalizers = [...(marked.metadata.finalizers ?? []), CLEANUP];
  marked.status = withCondition(deps, marked.status);
  const state = deps.store.put(kind.resource, marked);
  const custom = kindsOfCrd(stored.object)[0];
  for (const { object } of instances) {
    const { namespace, name } = object.metadata;
    const instance = deps.store.get(resource, namespace, name);
    if (instance === undefined) continue;
    // A kind that no version serves can be reached by nobody who could let its finalizers go.
    if (custom === undefined) deps.store.remove(resource, namespace, name);
    else deleteObject(deps, custom, instance, { dryRun: false });
  }
  if (custom === undefined) finishDefinition(deps, stored.object.metadata.name);
  const left = deps.store.get(CRDS, undefined, stored.object.metadata.name);
  return left === undefined
    ? { kind: 'gone', object: state.object }
    : { kind: 'terminating', object: left.object };
}

function withCondition({ clock }: ObjectsDeps, status: unknown): JsonObject {
  const held = isObject(status) ? status : {};
  const conditions = (Array.isArray(held.conditions) ? held.conditions : []).filter(
    (condition: unknown) => at(condition, 'type') !== 'Terminating',
  );
  const terminating = {
    type: 'Terminating',
    status: 'True',
    lastTransitionTime: kubeTime(clock.now()),
    reason: 'InstanceDeletionInProgress',
    message: 'CustomResource deletion is in progress',
  };
  return { ...held, conditions: [...conditions, terminating] };
}

/** After an object has gone: the last one lets its ending definition go, too. */
export function finishDefinition(deps: ObjectsDeps, name: string): void {
  const stored = deps.store.get(CRDS, undefined, name);
  const { deletionTimestamp, finalizers = [] } = stored?.object.metadata ?? {};
  if (stored === undefined || deletionTimestamp === undefined || !finalizers.includes(CLEANUP)) return;
  if (deps.store.list(resourceOf(stored.object)).length > 0) return;
  const left = finalizers.filter((finalizer) => finalizer !== CLEANUP);
  const kind = deps.registry.find('apiextensions.k8s.io', 'v1', 'customresourcedefinitions')!;
  if (left.length === 0) removeStored(deps, kind, stored);
  else
    deps.store.put(CRDS, {
      ...stored.object,
      metadata: { ...stored.object.metadata, finalizers: left },
    });
}

/** At start: what a kill left between the last object and its definition. */
export function finishDefinitions(deps: ObjectsDeps): void {
  for (const { object } of deps.store.list(CRDS)) finishDefinition(deps, object.metadata.name);
}

/** Nothing new comes into a kind that is being emptied. */
export function requireLivingDefinition(deps: ObjectsDeps, kind: Kind): void {
  if (kind.schema === undefined) return;
  const crd = deps.store.get(CRDS, undefined, `${kind.plural}.${kind.group}`);
  if (crd?.object.metadata.deletionTimestamp !== undefined)
    throw new StatusError(
      405,
      'MethodNotAllowed',
      'create not allowed while custom resource definition is terminating',
      { group: kind.group, kind: kind.plural },
    );
}

/** After a definition has gone: those that waited for one of its names are looked at again. */
export function acceptWaiting(deps: ObjectsDeps, kind: Kind): void {
  const options = {
    dryRun: false,
    fieldManager: 'culvert',
    fieldValidation: 'Ignore',
    warnings: [],
  } as const;
  for (const stored of deps.store.list(CRDS))
    if (!isEstablished(stored.object))
      updateObject(deps, kind, stored, (current) => current, 'object', { ...options, warnings: [] });
}
