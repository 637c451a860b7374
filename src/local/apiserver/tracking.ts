// Ownership at each door of the API: what a create, an update or a patch makes of managedFields. Applying: apply.ts.

import type { WriteOptions } from './admit.ts';
import { type FieldSet, fieldElement } from './field-set.ts';
import type { Kind } from './kind.ts';
import { mergeTypeOf } from './merge-type.ts';
import { type ApiObject, equal, isObject, type JsonObject, type ManagedFields } from './object.ts';
import {
  entriesOf,
  fittedOwners,
  type Owners,
  ownersAfterUpdate,
  ownersFrom,
  ownersOf,
  sameOwners,
  type Writer,
} from './owners.ts';

/** The name below an object that a write went through; `object` is the object itself. */
export type Door = 'object' | 'status' | 'finalize' | 'scale';

export function writerOf(kind: Kind, door: Door, options: WriteOptions, nowMs: number): Writer {
  return {
    manager: options.fieldManager,
    apiVersion: kind.apiVersion,
    subresource: door === 'object' ? '' : door,
    nowMs,
    owns: (fields) =>
      door === 'status' ? statusPart(kind, fields) : kind.status ? withoutStatus(fields) : fields,
  };
}

function withoutStatus(fields: FieldSet): FieldSet {
  if (fields['f:status'] === undefined) return fields;
  const { 'f:status': _, ...rest } = fields;
  return rest;
}

function statusPart(kind: Kind, fields: FieldSet): FieldSet {
  const part: Record<string, FieldSet> = {};
  if (fields['f:status'] !== undefined) part['f:status'] = fields['f:status'];
  const carried: Record<string, FieldSet> = {};
  for (const name of kind.strategy.statusCarries ?? []) {
    const found = fields['f:metadata']?.[fieldElement(name)];
    if (found !== undefined) carried[fieldElement(name)] = found;
  }
  if (Object.keys(carried).length > 0) part['f:metadata'] = carried;
  return part;
}

export function withoutEntries<T extends JsonObject>(object: T): T {
  if (!isObject(object.metadata) || object.metadata.managedFields === undefined) return object;
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}

/** Everything of a new object is its creator's. */
export function trackCreate(kind: Kind, object: ApiObject, writer: Writer): void {
  const owners = ownersAfterUpdate(mergeTypeOf(kind), {}, withoutEntries(object), new Map(), writer);
  setEntries(object, entriesOf(owners));
}

/**
 * The entries after an update. A client may send entries along: what it read, changed ones (`kubectl` does, when it
 * goes over to server-side apply), or an empty list, which ends the tracking until the next apply.
 */
export function trackUpdate(
  kind: Kind,
  old: ApiObject,
  next: ApiObject,
  requested: unknown,
  writer: Writer,
): void {
  const present = old.metadata.managedFields;
  const own = writer.subresource === '' && requested !== undefined && !equal(requested, present);
  const type = mergeTypeOf(kind);
  const before = own ? requestedOwners(requested, present) : fittedOwners(kind, type, present);
  const after =
    before.size === 0
      ? before
      : ownersAfterUpdate(type, withoutEntries(old), withoutEntries(next), before, writer);
  setEntries(next, after === before && !own ? present : entriesOf(after));
}

function requestedOwners(requested: unknown, present: readonly ManagedFields[] | undefined): Owners {
  if (!Array.isArray(requested)) return ownersOf(present);
  const isReset =
    requested.length === 0 ||
    (requested.length === 1 && isObject(requested[0]) && Object.keys(requested[0]).length === 0);
  if (isReset) return new Map();
  // What cannot be read is no reason to forget who owned what.
  const owners = ownersFrom(requested);
  return owners === undefined || owners.size === 0 ? ownersOf(present) : owners;
}

export function setEntries(object: ApiObject, entries: readonly ManagedFields[] | undefined): void {
  if (entries === undefined || entries.length === 0) delete object.metadata.managedFields;
  else object.metadata.managedFields = entries as ManagedFields[];
}

/** Nothing but the times of entries differs: such a write is none, and keeps the old times. */
export const isSameWrite = (next: ApiObject, old: ApiObject): boolean =>
  equal(withoutEntries(next), withoutEntries(old)) &&
  sameOwners(next.metadata.managedFields, old.metadata.managedFields);
