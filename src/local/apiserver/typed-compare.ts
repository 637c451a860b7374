// Typed walks that look: which fields an object has, and which differ between two objects, as field sets.

import { addPath, EMPTY_SET, type FieldSet, type FieldSetDraft, fieldElement } from './field-set.ts';
import type { ListType, MapType, MergeType } from './merge-type.ts';
import { equal, field, isObject, type JsonObject } from './object.ts';

export interface Comparison {
  readonly added: FieldSet;
  readonly modified: FieldSet;
  readonly removed: FieldSet;
}

/** How a value is taken: whole, or part by part. */
export type Form =
  | { readonly kind: 'leaf' }
  | { readonly kind: 'map'; readonly type: MapType; readonly value: JsonObject }
  | { readonly kind: 'list'; readonly type: ListType; readonly value: readonly unknown[] };

const LEAF: Form = { kind: 'leaf' };

/** Undefined for null and for nothing: they take the form of whatever they are compared with. */
export function formOf(type: MergeType, value: unknown): Form | undefined {
  if (value === null || value === undefined) return undefined;
  if (Array.isArray(value))
    return type.list === undefined || type.list.rule === 'atomic'
      ? LEAF
      : { kind: 'list', type: type.list, value };
  if (isObject(value))
    return type.map === undefined || type.map.atomic ? LEAF : { kind: 'map', type: type.map, value };
  return LEAF;
}

const isEmptyForm = (form: Form): boolean =>
  form.kind === 'list'
    ? form.value.length === 0
    : form.kind === 'map' && Object.keys(form.value).length === 0;

/** Every leaf and every item that the object names: what its applier owns. */
export function fieldsOf(type: MergeType, value: unknown): FieldSet {
  const set: FieldSetDraft = {};
  collect(type, value, [], set);
  return set;
}

function collect(type: MergeType, value: unknown, path: string[], set: FieldSetDraft): void {
  const form = formOf(type, value);
  if (form === undefined) {
    // Of what is owned as a whole, a null is one too; of the rest the map above says so.
    if (type.scalar !== undefined || type.map?.atomic === true || type.list?.rule === 'atomic')
      addPath(set, path);
  } else if (form.kind === 'leaf') addPath(set, path);
  else if (form.kind === 'map') collectMap(form.type, form.value, path, set);
  else collectList(form.type, form.value, path, set);
}

function collectMap(type: MapType, value: JsonObject, path: string[], set: FieldSetDraft): void {
  for (const name of Object.keys(value)) {
    const child = value[name];
    if (child === undefined) continue;
    path.push(fieldElement(name));
    const childType = type.child(name);
    if (childType !== undefined) collect(childType, child, path, set);
    const isEmpty = child === null || (isObject(child) && Object.keys(child).length === 0);
    // A key of a map is something by itself, the field of a struct is not.
    if (isEmpty || !type.isField(name)) addPath(set, path);
    path.pop();
  }
}

function collectList(type: ListType, value: readonly unknown[], path: string[], set: FieldSetDraft): void {
  for (const [element, items] of itemsByElement(type, value)) {
    path.push(element);
    // Doubles cannot be told apart: they are owned together, without what is in them.
    if (items.length === 1) collect(type.items(), items[0], path, set);
    addPath(set, path);
    path.pop();
  }
}

/** In the order of first appearance. What has no identity is passed over: checks have named it before. */
export function itemsByElement(type: ListType, list: readonly unknown[]): Map<string, unknown[]> {
  const items = new Map<string, unknown[]>();
  for (const item of list) {
    const identity = type.identify(item);
    if (!('element' in identity)) continue;
    const same = items.get(identity.element);
    if (same === undefined) items.set(identity.element, [item]);
    else same.push(item);
  }
  return items;
}

/** What a change from one object to another adds, modifies and removes. */
export function compareTyped(type: MergeType, from: unknown, to: unknown): Comparison {
  const walk: Walk = { path: [], added: {}, modified: {}, removed: {} };
  compare(walk, type, from, to);
  return walk;
}

export const SAME: Comparison = { added: EMPTY_SET, modified: EMPTY_SET, removed: EMPTY_SET };

interface Walk {
  readonly path: string[];
  readonly added: FieldSetDraft;
  readonly modified: FieldSetDraft;
  readonly removed: FieldSetDraft;
}

function compare(walk: Walk, type: MergeType, from: unknown, to: unknown): void {
  if (from === to) return;
  const before = formOf(type, from);
  const after = formOf(type, to);
  const oneForm = before === undefined || after === undefined || before.kind === after.kind;
  const leaf =
    !oneForm || ((before === undefined || takesWhole(before)) && (after === undefined || takesWhole(after)));
  // A value that changes its form is another value, and the parts it had or gets come and go besides.
  if (leaf) mark(walk, from, to);
  if (oneForm && leaf) return;
  if (before?.kind === 'map' || after?.kind === 'map')
    compareMaps(
      walk,
      (before?.kind === 'map' ? before.type : undefined) ?? (after as Form & { kind: 'map' }).type,
      before?.kind === 'map' ? before.value : undefined,
      after?.kind === 'map' ? after.value : undefined,
    );
  if (before?.kind === 'list' || after?.kind === 'list')
    compareLists(
      walk,
      (before?.kind === 'list' ? before.type : undefined) ?? (after as Form & { kind: 'list' }).type,
      before?.kind === 'list' ? before.value : [],
      after?.kind === 'list' ? after.value : [],
    );
  if (!leaf) markIfOneSided(walk, from, to);
}

/** An empty container beside an empty one or nothing is compared as a whole: empty and absent are not the same. */
const takesWhole = (form: Form): boolean => form.kind === 'leaf' || isEmptyForm(form);

function mark(walk: Walk, from: unknown, to: unknown): void {
  if (from === undefined || to === undefined) markIfOneSided(walk, from, to);
  else if (!equal(from, to)) addPath(walk.modified, walk.path);
}

function markIfOneSided(walk: Walk, from: unknown, to: unknown): void {
  if (from === undefined) addPath(walk.added, walk.path);
  else if (to === undefined) addPath(walk.removed, walk.path);
}

function compareMaps(
  walk: Walk,
  type: MapType,
  from: JsonObject | undefined,
  to: JsonObject | undefined,
): void {
  const visit = (name: string): void => {
    const before = field(from, name);
    const after = field(to, name);
    const childType = before === after ? undefined : type.child(name);
    if (childType === undefined) return;
    walk.path.push(fieldElement(name));
    compare(walk, childType, before, after);
    walk.path.pop();
  };
  for (const name in from) visit(name);
  for (const name in to) if (from === undefined || !Object.hasOwn(from, name)) visit(name);
}

function compareLists(walk: Walk, type: ListType, from: readonly unknown[], to: readonly unknown[]): void {
  if (equal(from, to)) return;
  const before = itemsByElement(type, from);
  const after = itemsByElement(type, to);
  const visit = (element: string): void => {
    walk.path.push(element);
    compareItems(walk, type.items(), before.get(element) ?? [], after.get(element) ?? []);
    walk.path.pop();
  };
  for (const element of before.keys()) visit(element);
  for (const element of after.keys()) if (!before.has(element)) visit(element);
}

/** Doubles are one thing without parts: it comes, changes and goes as a whole. */
function compareItems(walk: Walk, type: MergeType, from: readonly unknown[], to: readonly unknown[]): void {
  if (from.length <= 1 && to.length <= 1) compare(walk, type, from[0], to[0]);
  else if (from.length > 1 && to.length > 1) {
    if (!equal(from, to)) addPath(walk.modified, walk.path);
  } else if (from.length > 1) {
    if (to.length === 1) compare(walk, type, undefined, to[0]);
    addPath(walk.removed, walk.path);
  } else {
    if (from.length === 1) compare(walk, type, from[0], undefined);
    addPath(walk.added, walk.path);
  }
}
