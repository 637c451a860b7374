// Lists in strategic merge patches: merged by key or as sets, and brought into order.

import { field, isObject, type JsonObject } from './object.ts';
import { badRequest, StatusError } from './status.ts';
import { goText, PATCH, plain } from './strategic-text.ts';

export interface ListMerge {
  /** Without one the list is a set of plain values. */
  readonly mergeKey: string | undefined;
  readonly mergeItem: (present: JsonObject, patch: JsonObject) => JsonObject;
}

/** Present items keep their order; those that only the patch has come before what it does not name. */
export function mergeList(
  rule: ListMerge,
  present: readonly unknown[],
  patch: readonly unknown[],
): readonly unknown[] {
  if (present.length === 0 && patch.length === 0) return present;
  if (elementType(present, patch) !== 'map') {
    const set = [...new Set([...present, ...patch])];
    return inOrder(undefined, set, patch, present);
  }
  const { mergeKey } = rule;
  if (mergeKey === undefined) throw badRequest('cannot merge lists without merge key for struct');
  const { kept, wanted } = directedItems(mergeKey, present as JsonObject[], patch as JsonObject[]);
  const merged: JsonObject[] = [...kept];
  for (const item of wanted) {
    const key = keyOf(item, mergeKey);
    const index = merged.findIndex((other) => field(other, mergeKey) === key);
    if (index < 0) merged.push(plain(item) as JsonObject);
    else merged[index] = rule.mergeItem(merged[index]!, item);
  }
  return inOrder(mergeKey, merged, wanted, kept);
}

/** `$patch` in items: one is deleted, or the whole list gives way to the others of the patch. */
function directedItems(
  mergeKey: string,
  present: readonly JsonObject[],
  patch: readonly JsonObject[],
): { kept: readonly JsonObject[]; wanted: readonly JsonObject[] } {
  const wanted = patch.filter((item) => !Object.hasOwn(item, PATCH));
  let kept = present;
  for (const item of patch) {
    if (!Object.hasOwn(item, PATCH) || item[PATCH] === 'replace') continue;
    if (item[PATCH] === 'merge') throw badRequest('merging lists cannot yet be specified in the patch');
    if (item[PATCH] !== 'delete')
      throw badRequest(`unknown patch type: ${goText(item[PATCH])} in map: ${goText(item)}`);
    const key = keyOf(item, mergeKey);
    kept = kept.filter((other) => field(other, mergeKey) !== key);
  }
  return patch.some((item) => item[PATCH] === 'replace')
    ? { kept: wanted.map((item) => plain(item) as JsonObject), wanted: [] }
    : { kept, wanted };
}

export const withoutItems = (list: readonly unknown[], gone: readonly unknown[]): unknown[] =>
  list.filter((item) => !gone.includes(item));

/** The list in the order asked for, or undefined where there is neither a list nor a patch of it. */
export function orderedList(
  { mergeKey }: ListMerge,
  present: readonly unknown[] | undefined,
  patch: readonly unknown[] | undefined,
  order: readonly unknown[],
  merge: () => readonly unknown[],
): readonly unknown[] | undefined {
  checkOrder(mergeKey, patch ?? [], order);
  if (present === undefined && patch === undefined) return undefined;
  const merged = patch === undefined ? (present ?? []) : merge();
  if (mergeKey !== undefined) for (const item of merged) keyOf(item, mergeKey);
  elementType(present ?? [], patch ?? []);
  return inOrder(mergeKey, merged, order, freedPlaces(mergeKey, present ?? [], merged, patch ?? []));
}

/** Where items were deleted, as many new ones of the patch take their places, behind those that stayed. */
function freedPlaces(
  mergeKey: string | undefined,
  present: readonly unknown[],
  merged: readonly unknown[],
  patch: readonly unknown[],
): readonly unknown[] {
  if (mergeKey === undefined) return present;
  const holds = (list: readonly unknown[], item: unknown): boolean =>
    list.some((other) => field(other, mergeKey) === field(item, mergeKey));
  const stayed = present.filter((item) => holds(merged, item));
  const fresh = patch.filter((item) => !isDirective(item) && !holds(present, item));
  return [...stayed, ...fresh.slice(0, present.length - stayed.length)];
}

/** What the patch sets must appear in the order it asks for, in that order. */
function checkOrder(
  mergeKey: string | undefined,
  patch: readonly unknown[],
  order: readonly unknown[],
): void {
  if (patch.length === 0 || order.length === 0) return;
  const items =
    mergeKey === undefined ? patch : patch.filter((item) => !isObject(item) || item[PATCH] !== 'delete');
  const identity = (item: unknown): unknown => (mergeKey === undefined ? item : keyOf(item, mergeKey));
  let next = 0;
  for (const wanted of order) {
    // Other directives in between say nothing about order.
    while (next < items.length && isDirective(items[next])) next++;
    if (next === items.length) return;
    if (identity(items[next]) === identity(wanted)) next++;
  }
  if (next < items.length)
    throw badRequest(
      `The order in patch list:\n${goText(patch)}\n doesn't match $setElementOrder list:\n${goText(order)}\n`,
    );
}

const isDirective = (item: unknown): boolean => isObject(item) && Object.hasOwn(item, PATCH);

/**
 * What `order` names stands in that order. The rest keeps the order of `present` and comes first only where both
 * sides were present in that sequence.
 */
function inOrder(
  mergeKey: string | undefined,
  merged: readonly unknown[],
  order: readonly unknown[],
  present: readonly unknown[],
): unknown[] {
  const identity = (item: unknown): unknown => (mergeKey === undefined ? item : keyOf(item, mergeKey));
  const placesIn = (list: readonly unknown[]): Map<unknown, number> => {
    const places = new Map<unknown, number>();
    list.forEach((item, index) => {
      if (!places.has(identity(item))) places.set(identity(item), index);
    });
    return places;
  };
  const asked = placesIn(order);
  const before = placesIn(present);
  const sortedBy = (places: Map<unknown, number>, items: readonly unknown[]): unknown[] =>
    [...items].sort((a, b) => (places.get(identity(a)) ?? 0) - (places.get(identity(b)) ?? 0));
  const named = sortedBy(
    asked,
    merged.filter((item) => asked.has(identity(item))),
  );
  const others = sortedBy(
    before,
    merged.filter((item) => !asked.has(identity(item))),
  );
  const result: unknown[] = [];
  while (named.length > 0 && others.length > 0) {
    const place = before.get(identity(named[0]));
    const otherPlace = before.get(identity(others[0]));
    const otherFirst = place !== undefined && otherPlace !== undefined && otherPlace < place;
    result.push(otherFirst ? others.shift() : named.shift());
  }
  return [...result, ...named, ...others];
}

function keyOf(item: unknown, mergeKey: string): unknown {
  const key = field(item, mergeKey);
  if (key === undefined)
    throw badRequest(`map: ${goText(item)} does not contain declared merge key: ${mergeKey}`);
  return key;
}

/** All items of both lists are of one type. */
function elementType(...lists: readonly (readonly unknown[])[]): string {
  let type: string | undefined;
  for (const item of lists.flat(1)) {
    if (Array.isArray(item)) throw new StatusError(422, 'Invalid', 'lists of lists are not supported');
    const found = isObject(item) ? 'map' : typeof item;
    type ??= found;
    if (type !== found) throw badRequest(`list element types are not identical: ${goText(lists)}`);
  }
  if (type === undefined) throw badRequest('no elements in any of the given slices');
  return type;
}
