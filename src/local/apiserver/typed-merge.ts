// Typed walks that change: an applied configuration merged into an object, and fields taken out of one. Nothing given
// is changed; untouched parts are shared.

import { below, type FieldSet, fieldElement, hasElement, isEmptySet } from './field-set.ts';
import type { ListType, MapType, MergeType } from './merge-type.ts';
import { clone, field, isObject, type JsonObject } from './object.ts';
import { type Form, formOf, itemsByElement } from './typed-compare.ts';

/** Where both name a leaf, the configuration wins. */
export function mergeTyped(type: MergeType, live: unknown, applied: unknown): unknown {
  if (applied === undefined) return live;
  const mine = formOf(type, live);
  const theirs = formOf(type, applied);
  if (theirs === undefined) {
    // A null empties a leaf; of a container it only says that the configuration names none of its parts.
    return mine === undefined || mine.kind === 'leaf' || isEmptyValue(live) ? applied : live;
  }
  if (theirs.kind === 'leaf' || (isEmptyValue(applied) && (mine === undefined || isEmptyValue(live))))
    return clone(applied);
  if (theirs.kind === 'map')
    return mergeMaps(theirs.type, mine?.kind === 'map' ? mine.value : {}, theirs.value);
  return mergeLists(theirs.type, mine?.kind === 'list' ? mine.value : [], theirs.value);
}

const isEmptyValue = (value: unknown): boolean =>
  (Array.isArray(value) && value.length === 0) || (isObject(value) && Object.keys(value).length === 0);

function mergeMaps(type: MapType, live: JsonObject, applied: JsonObject): JsonObject {
  const merged: JsonObject = { ...live };
  for (const [name, value] of Object.entries(applied)) {
    const child = type.child(name);
    if (child !== undefined) merged[name] = mergeTyped(child, field(live, name), value);
  }
  return merged;
}

/**
 * Items of the configuration stand in its order; what only the live list holds keeps its place between them. The
 * item that both hold next is the meeting point: everything of the configuration up to it comes before what follows
 * it in the live list.
 */
function mergeLists(type: ListType, live: readonly unknown[], applied: readonly unknown[]): unknown[] {
  const present = itemsByElement(type, live);
  const wanted = [...itemsByElement(type, applied)];
  const wantedElements = new Set(wanted.map(([element]) => element));
  const shared = wanted.map(([element]) => element).filter((element) => present.has(element));
  const merged: unknown[] = [];
  let next = 0;
  let met = 0;
  const takeOne = (): string => {
    const [element, [item]] = wanted[next++]!;
    const mine = present.get(element);
    // Doubles have no state of their own to merge with.
    merged.push(mergeTyped(type.items(), mine?.length === 1 ? mine[0] : undefined, item));
    if (shared[met] === element) met++;
    return element;
  };
  for (const item of live) {
    const identity = type.identify(item);
    if (!('element' in identity) || !wantedElements.has(identity.element)) merged.push(item);
    else if (met === shared.length) {
      if (next < wanted.length) takeOne();
    } else if (shared[met] === identity.element) while (takeOne() !== identity.element);
  }
  while (next < wanted.length) takeOne();
  return merged;
}

/**
 * Takes fields and items out. A container that loses all it had stays as null, which says that it was there: what
 * is asked of the result depends on it. `withoutNulls` clears that away in the end.
 */
export function removeFields(type: MergeType, value: unknown, gone: FieldSet): unknown {
  if (isEmptySet(gone)) return value;
  const form = formOf(type, value);
  if (form?.kind === 'map') return removeFromMap(form, gone);
  if (form?.kind === 'list') return removeFromList(form, gone);
  // Below what is owned as a whole nothing can be taken out.
  return isObject(value) || Array.isArray(value) ? null : value;
}

function removeFromMap({ type, value }: Form & { readonly kind: 'map' }, gone: FieldSet): unknown {
  const left: JsonObject = {};
  for (const name of Object.keys(value)) {
    const element = fieldElement(name);
    if (hasElement(gone, element)) continue;
    const child = type.child(name);
    left[name] = child === undefined ? value[name] : removeFields(child, value[name], below(gone, element));
  }
  return Object.keys(left).length === 0 ? null : left;
}

function removeFromList({ type, value }: Form & { readonly kind: 'list' }, gone: FieldSet): unknown {
  const left: unknown[] = [];
  for (const item of value) {
    const identity = type.identify(item);
    if (!('element' in identity)) left.push(item);
    else if (!hasElement(gone, identity.element))
      left.push(removeFields(type.items(), item, below(gone, identity.element)));
  }
  return left.length === 0 ? null : left;
}

/** Null is an absent field, except where a custom resource's schema allows it. */
export function withoutNulls(type: MergeType, value: unknown): unknown {
  if (Array.isArray(value)) {
    const items = type.list?.items();
    return items === undefined ? value : value.map((item) => withoutNulls(items, item));
  }
  if (!isObject(value)) return value;
  const kept: JsonObject = {};
  for (const [name, child] of Object.entries(value)) {
    const childType = type.map?.child(name);
    if (child === null && childType?.nullable !== true) continue;
    kept[name] = childType === undefined ? child : withoutNulls(childType, child);
  }
  return kept;
}
