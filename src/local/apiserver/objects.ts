// The verbs on stored objects: create and update (removal.ts: delete), with what Kubernetes promises about versions,
// generations and finalizers. No HTTP, no encodings.

import { randomUUID } from 'node:crypto';
import type { Clock, Random } from '#base/clock.ts';
import { checkFields, envelope, fillDefaults, validate, type WriteOptions } from './admit.ts';
import { requireLivingDefinition } from './crd-removal.ts';
import type { Kind, ServiceFamilies, StrategyContext } from './kind.ts';
import { type ApiObject, at, clone, equal, type JsonObject, kubeTime, type ManagedFields } from './object.ts';
import { generatedName } from './random-name.ts';
import type { GuardedWrite } from './rbac/write-guard.ts';
import type { Registry } from './registry.ts';
import { mayGo, removeStored } from './removal.ts';
import {
  alreadyExists,
  badRequest,
  conflict,
  fieldForbidden,
  forbidden,
  invalidObject,
  MODIFIED,
  notFound,
} from './status.ts';
import { resourceKey, type Store, type Stored } from './store.ts';
import {
  type Door,
  isSameWrite,
  setEntries,
  trackCreate,
  trackUpdate,
  withoutEntries,
  writerOf,
} from './tracking.ts';

export interface ObjectsDeps {
  readonly store: Store;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly random: Random;
  /** IPv4 alone unless told otherwise. */
  readonly serviceFamilies?: ServiceFamilies;
  /** What authorization must see of a body; throws. Writes of the server itself have no user and pass. */
  readonly guard?: (write: GuardedWrite) => void;
}

const NAMESPACES = resourceKey('', 'namespaces');

const contextOf = ({ store, clock, random, serviceFamilies = ['IPv4'] }: ObjectsDeps): StrategyContext => ({
  store,
  clock,
  random,
  serviceFamilies,
});

/** The object as its kind's version shows it. */
export function render(kind: Kind, stored: Stored): ApiObject {
  return stored.object.apiVersion === kind.apiVersion
    ? stored.object
    : { ...stored.object, apiVersion: kind.apiVersion };
}

export function getStored(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  name: string,
): Stored {
  const stored = deps.store.get(kind.resource, namespace, name);
  if (stored === undefined) throw notFound(kind, name);
  return stored;
}

/** `applied`: the body is the outcome of an apply and carries its managedFields. */
export interface CreateOptions extends WriteOptions {
  readonly applied?: boolean;
}

export interface UpdateOptions extends CreateOptions {
  /** The door of the write where it is not the part that changes; `untracked` writes leave all owners as they are. */
  readonly door?: Door | 'untracked';
}

export function createObject(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  body: JsonObject,
  options: CreateOptions,
): Stored {
  const object = envelope(kind, clone(withoutEntries(body)) as JsonObject, namespace);
  const meta = object.metadata;
  if (meta.resourceVersion !== undefined && meta.resourceVersion !== '')
    throw badRequest('resourceVersion should not be set on objects to be created');
  if (meta.name === '' && meta.generateName) meta.name = generatedName(meta.generateName, deps.random);
  checkFields(kind, object, options);
  for (const field of [
    'selfLink',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
    'resourceVersion',
    'generation',
  ])
    delete (meta as unknown as JsonObject)[field];
  requireLivingDefinition(deps, kind);
  if (meta.namespace !== undefined) requireNamespace(deps, kind, meta.namespace, meta.name);
  if (deps.store.get(kind.resource, meta.namespace, meta.name) !== undefined)
    throw alreadyExists(kind, meta.name);
  meta.uid = randomUUID();
  meta.creationTimestamp = kubeTime(deps.clock.now());
  if (kind.strategy.generation) meta.generation = 1;
  if (kind.status && kind.strategy.keepStatusOnCreate !== true) delete object.status;
  fillDefaults(kind, object);
  // What the server itself decides from here on (addresses, generations) has no owner.
  if (options.applied === true) setEntries(object, (body as ApiObject).metadata.managedFields);
  else trackCreate(kind, object, writerOf(kind, 'object', options, deps.clock.now()));
  kind.strategy.prepareCreate?.(object, contextOf(deps));
  validate(kind, object, undefined);
  if (options.user !== undefined) deps.guard?.({ kind, object, old: undefined, user: options.user });
  return options.dryRun ? pretend(deps, object) : deps.store.put(kind.resource, object);
}

function requireNamespace(deps: ObjectsDeps, kind: Kind, namespace: string, name: string): void {
  const stored = deps.store.get(NAMESPACES, undefined, namespace);
  if (stored === undefined) throw notFound({ group: '', plural: 'namespaces', kind: 'Namespace' }, namespace);
  if (stored.object.metadata.deletionTimestamp !== undefined)
    throw forbidden(
      kind,
      name,
      `unable to create new content in namespace ${namespace} because it is being terminated`,
      [
        {
          reason: 'NamespaceTerminating',
          message: `namespace ${namespace} is being terminated`,
          field: 'metadata.namespace',
        },
      ],
    );
}

export type Part = 'object' | 'status' | 'finalize';

/** Replaces an object, or one part of it, by what `change` makes of a copy of the present state. */
export function updateObject(
  deps: ObjectsDeps,
  kind: Kind,
  stored: Stored,
  change: (current: ApiObject) => JsonObject,
  part: Part,
  options: UpdateOptions,
): Stored {
  const old = stored.object;
  const changed = change(privateCopy(render(kind, stored)));
  const sent = at(changed, 'metadata', 'managedFields');
  // Entries of this server's own making need no reading.
  const ours = options.applied === true || sent === old.metadata.managedFields;
  const body = envelope(kind, ours ? withoutEntries(changed) : changed, old.metadata.namespace);
  checkIdentity(kind, old, body);
  checkFields(kind, body, options);
  const next = part === 'object' ? nextObject(kind, old, body) : nextPart(kind, old, body, part);
  const requested = ours ? (sent as ManagedFields[] | undefined) : body.metadata.managedFields;
  keepMeta(next, old);
  const track = (): void => {
    if (options.applied === true) setEntries(next, requested);
    else if (options.door === 'untracked') setEntries(next, old.metadata.managedFields);
    else
      trackUpdate(
        kind,
        old,
        next,
        requested,
        writerOf(kind, options.door ?? part, options, deps.clock.now()),
      );
  };
  if (part === 'object') {
    fillDefaults(kind, next);
    track();
    kind.strategy.prepareUpdate?.(next, old, contextOf(deps));
    bumpGeneration(kind, next, old);
    checkFinalizers(kind, next, old);
    validate(kind, next, old);
  } else if (part === 'status' && kind.schema !== undefined) {
    fillDefaults(kind, next);
    track();
    validate(kind, next, old);
  } else track();
  if (isSameWrite(next, { ...old, apiVersion: next.apiVersion })) return stored;
  if (options.user !== undefined) deps.guard?.({ kind, object: next, old, user: options.user });
  if (options.dryRun) return pretend(deps, next);
  const written = deps.store.put(kind.resource, next);
  return mayGo(kind, next) ? removeStored(deps, kind, written) : written;
}

/** The entries stay the stored ones: most writes leave nearly all of them as they are. */
function privateCopy(object: ApiObject): ApiObject {
  const copy = clone(withoutEntries(object));
  setEntries(copy, object.metadata.managedFields);
  return copy;
}

function checkIdentity(kind: Kind, old: ApiObject, body: ApiObject): void {
  const { name, uid, resourceVersion } = body.metadata;
  if (name !== old.metadata.name)
    throw badRequest(
      `the name of the object (${name}) does not match the name on the URL (${old.metadata.name})`,
    );
  if (uid !== undefined && uid !== '' && uid !== old.metadata.uid)
    throw conflict(
      kind,
      name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${old.metadata.uid}`,
    );
  if (
    resourceVersion !== undefined &&
    resourceVersion !== '' &&
    resourceVersion !== old.metadata.resourceVersion
  )
    throw conflict(kind, name, MODIFIED);
}

function nextObject(kind: Kind, old: ApiObject, body: ApiObject): ApiObject {
  if (!kind.status) return body;
  const { status: _, ...content } = body;
  return (old.status === undefined ? content : { ...content, status: clone(old.status) }) as ApiObject;
}

function nextPart(kind: Kind, old: ApiObject, body: ApiObject, part: 'status' | 'finalize'): ApiObject {
  const next = privateCopy(old);
  if (part === 'finalize') {
    next.spec = { ...(at(old, 'spec') as JsonObject), finalizers: at(body, 'spec', 'finalizers') ?? [] };
    return next;
  }
  if (body.status === undefined) delete next.status;
  else next.status = body.status;
  for (const name of kind.strategy.statusCarries ?? []) {
    const value = body.metadata[name];
    if (value === undefined) delete next.metadata[name];
    else next.metadata[name] = value;
  }
  return next;
}

/** What only the server writes. */
function keepMeta(next: ApiObject, old: ApiObject): void {
  const kept = old.metadata as unknown as JsonObject;
  const meta = next.metadata as unknown as JsonObject;
  for (const name of [
    'uid',
    'creationTimestamp',
    'generation',
    'generateName',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
    'resourceVersion',
  ])
    if (kept[name] === undefined) delete meta[name];
    else meta[name] = kept[name];
  delete meta.selfLink;
}

function bumpGeneration(kind: Kind, next: ApiObject, old: ApiObject): void {
  if (!kind.strategy.generation) return;
  const content = (object: ApiObject): JsonObject => {
    const { apiVersion: _, metadata: __, ...rest } = object;
    // Without the subresource a status is content like any other.
    if (kind.status) delete rest.status;
    return rest;
  };
  if (!equal(content(next), content(old))) next.metadata.generation = (old.metadata.generation ?? 0) + 1;
}

function checkFinalizers(kind: Kind, next: ApiObject, old: ApiObject): void {
  if (old.metadata.deletionTimestamp === undefined) return;
  const before = old.metadata.finalizers ?? [];
  const added = (next.metadata.finalizers ?? []).filter((name) => !before.includes(name));
  if (added.length > 0)
    throw invalidObject(kind, old.metadata.name, [
      fieldForbidden(
        'metadata.finalizers',
        `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
      ),
    ]);
}
/** The answer of a dry run: never stored, without a version of its own. */
function pretend(deps: ObjectsDeps, object: ApiObject): Stored {
  const shown = object.metadata.resourceVersion === undefined ? { ...object } : object;
  return { rev: deps.store.rev, object: shown, json: JSON.stringify(shown) };
}
