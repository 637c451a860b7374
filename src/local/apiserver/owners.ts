// metadata.managedFields: who owns which fields. Entries are told apart by manager, operation, subresource and, for
// updates, the version they spoke. Every write that is no apply passes `ownersAfterUpdate`.

import {
  difference,
  EMPTY_SET,
  type FieldSet,
  fieldElement,
  fieldSetFrom,
  isEmptySet,
  SELF,
  union,
} from './field-set.ts';
import type { Kind } from './kind.ts';
import { type MergeType, typeBelow, UNTYPED } from './merge-type.ts';
import { equal, isObject, type JsonObject, kubeTime, type ManagedFields } from './object.ts';
import { type Comparison, compareTyped, SAME } from './typed-compare.ts';

export interface Owner {
  readonly manager: string;
  readonly operation: 'Apply' | 'Update';
  readonly apiVersion: string;
  readonly subresource: string;
  readonly time: string | undefined;
  readonly fields: FieldSet;
}

/** By identity. */
export type Owners = ReadonlyMap<string, Owner>;

/** Who writes, through which version and which door. */
export interface Writer {
  readonly manager: string;
  readonly apiVersion: string;
  readonly subresource: string;
  readonly nowMs: number;
  /** What this door does not write is not owned through it (`status` through the object and the other way round). */
  readonly owns: (fields: FieldSet) => FieldSet;
}

/** More writers of updates than this are merged into one, the oldest first. */
const MAX_UPDATE_OWNERS = 10;
const ANCIENT = 'ancient-changes';

/** Never owned: what identifies an object, and what the server writes. */
const UNOWNED: FieldSet = {
  'f:apiVersion': EMPTY_SET,
  'f:kind': EMPTY_SET,
  'f:metadata': {
    '.': EMPTY_SET,
    ...Object.fromEntries(
      [
        'name',
        'namespace',
        'creationTimestamp',
        'selfLink',
        'uid',
        'clusterName',
        'generation',
        'managedFields',
        'resourceVersion',
      ].map((name) => [fieldElement(name), EMPTY_SET]),
    ),
  },
};

export const ownable = (fields: FieldSet): FieldSet => difference(fields, UNOWNED);

export const identityOf = (owner: Omit<Owner, 'time' | 'fields'>): string =>
  JSON.stringify([
    owner.manager,
    owner.operation,
    // An applier stays the same whatever version it speaks.
    owner.operation === 'Apply' ? '' : owner.apiVersion,
    owner.subresource,
  ]);

/** Of this server's own making: taken as it is. */
export const ownersOf = (entries: readonly ManagedFields[] | undefined): Owners =>
  new Map((entries ?? []).map((entry) => [identityOf(ownerOf(entry)), ownerOf(entry)]));

const ownerOf = (entry: ManagedFields): Owner => ({
  manager: entry.manager ?? '',
  operation: entry.operation === 'Apply' ? 'Apply' : 'Update',
  apiVersion: entry.apiVersion ?? '',
  subresource: entry.subresource ?? '',
  time: entry.time,
  fields: (entry.fieldsV1 ?? EMPTY_SET) as FieldSet,
});

/**
 * The same, brought into line with a definition that has changed since: what is owned as a whole now has no owners of
 * parts. (What was owned as a whole and is no more simply goes on from there.)
 */
export function fittedOwners(
  kind: Pick<Kind, 'schema'>,
  type: MergeType,
  entries: readonly ManagedFields[] | undefined,
): Owners {
  const owners = ownersOf(entries);
  // Types of built-in kinds do not change while a server runs, nor do their lists from one of its versions to the next.
  if (kind.schema === undefined) return owners;
  return new Map(
    [...owners].map(([identity, owner]) => [identity, { ...owner, fields: fitted(type, owner.fields) }]),
  );
}

function fitted(type: MergeType, fields: FieldSet): FieldSet {
  const result: Record<string, FieldSet> = {};
  for (const [element, node] of Object.entries(fields)) {
    const child = element === SELF ? undefined : typeBelow(type, element);
    // Of unknown content only lists are owned as a whole, and the set says by itself which is which.
    const whole = child !== UNTYPED && (child?.map?.atomic === true || child?.list?.rule === 'atomic');
    result[element] = child === undefined ? node : whole ? EMPTY_SET : fitted(child, node);
  }
  return result;
}

/** Of a client's making: undefined when one entry is not what it should be. */
export function ownersFrom(entries: readonly unknown[]): Owners | undefined {
  const owners = new Map<string, Owner>();
  for (const entry of entries) {
    if (!isObject(entry) || (entry.operation !== 'Apply' && entry.operation !== 'Update')) return undefined;
    if (typeof entry.apiVersion !== 'string' || entry.apiVersion === '' || entry.fieldsType !== 'FieldsV1')
      return undefined;
    const fields = fieldSetFrom(entry.fieldsV1 ?? {});
    if (fields === undefined) return undefined;
    const owner = ownerOf({ ...(entry as ManagedFields), fieldsV1: fields as JsonObject });
    owners.set(identityOf(owner), owner);
  }
  return owners;
}

/** In Kubernetes' order: appliers first, then by time, then by name. */
export function entriesOf(owners: Owners): ManagedFields[] {
  const sortKey = ({ operation, time, manager, apiVersion, subresource }: Owner): string[] => [
    operation,
    time ?? '',
    manager,
    apiVersion,
    subresource,
  ];
  return [...owners.values()]
    .sort((a, b) => compareKeys(sortKey(a), sortKey(b)))
    .map(({ manager, operation, apiVersion, subresource, time, fields }) => ({
      manager,
      operation,
      apiVersion,
      ...(time === undefined ? {} : { time }),
      fieldsType: 'FieldsV1',
      fieldsV1: fields as JsonObject,
      ...(subresource === '' ? {} : { subresource }),
    }));
}

function compareKeys(a: readonly string[], b: readonly string[]): number {
  const index = a.findIndex((part, at) => part !== b[at]);
  return index < 0 ? 0 : a[index]! < b[index]! ? -1 : 1;
}

/** Whether two lists of entries differ by nothing but their times. */
export const sameOwners = (
  a: readonly ManagedFields[] | undefined,
  b: readonly ManagedFields[] | undefined,
): boolean => a === b || equal(untimed(a), untimed(b));

const untimed = (entries: readonly ManagedFields[] = []): Map<string, FieldSet>[] | unknown[] =>
  entries
    .map(ownerOf)
    .map((owner) => [identityOf(owner), owner.apiVersion, owner.fields])
    .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));

/** The owners after an object changed from one state to another; the same map when nothing that is owned changed. */
export function ownersAfterUpdate(
  type: MergeType,
  from: unknown,
  to: unknown,
  owners: Owners,
  writer: Writer,
): Owners {
  const change = owned(compareTyped(type, from, to), writer);
  if (change === SAME) return owners;
  const touched = union(union(change.added, change.modified), change.removed);
  const after = new Map<string, Owner>();
  for (const [identity, owner] of owners) {
    const fields = difference(owner.fields, touched);
    if (!isEmptySet(fields)) after.set(identity, { ...owner, fields });
  }
  const gained = ownable(union(change.added, change.modified));
  if (!isEmptySet(gained)) {
    const { manager, apiVersion, subresource } = writer;
    const self = {
      manager: manager === '' ? 'unknown' : manager,
      operation: 'Update',
      apiVersion,
      subresource,
    } as const;
    const identity = identityOf(self);
    const fields = union(gained, after.get(identity)?.fields ?? EMPTY_SET);
    after.set(identity, { ...self, fields, time: kubeTime(writer.nowMs) });
  }
  return capped(after);
}

/** The part of a comparison that this writer's door is for. */
export function owned(change: Comparison, { owns }: Pick<Writer, 'owns'>): Comparison {
  const added = owns(change.added);
  const modified = owns(change.modified);
  const removed = owns(change.removed);
  return isEmptySet(added) && isEmptySet(modified) && isEmptySet(removed)
    ? SAME
    : { added, modified, removed };
}

function capped(owners: Map<string, Owner>): Owners {
  const updates = [...owners].filter(([, owner]) => owner.operation === 'Update');
  let excess = updates.length - MAX_UPDATE_OWNERS;
  if (excess <= 0) return owners;
  updates.sort(([a, one], [b, other]) => compareKeys([one.time ?? '', a], [other.time ?? '', b]));
  // The oldest two of a version make its bucket, further ones join it.
  const oldest = new Map<string, string>();
  for (const [identity, owner] of updates) {
    if (excess <= 0) break;
    const first = oldest.get(owner.apiVersion);
    if (first === undefined) {
      oldest.set(owner.apiVersion, identity);
      continue;
    }
    const bucket = {
      manager: ANCIENT,
      operation: 'Update',
      apiVersion: owner.apiVersion,
      subresource: '',
    } as const;
    const key = identityOf(bucket);
    const gathered = owners.get(key) ?? owners.get(first)!;
    owners.delete(first);
    owners.delete(identity);
    owners.set(key, { ...bucket, time: owner.time, fields: union(gathered.fields, owner.fields) });
    excess--;
  }
  return owners;
}
