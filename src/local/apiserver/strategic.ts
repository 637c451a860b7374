// Strategic merge patch: like a merge patch, but lists with a merge key are merged item by item, and directives
// ($patch, $retainKeys, $deleteFromPrimitiveList, $setElementOrder) say more. Unknown lists are replaced whole.

import { listMerge } from './merge-keys.ts';
import { clone, equal, field, isObject, type JsonObject } from './object.ts';
import { badRequest } from './status.ts';

const DELETE_FROM = '$deleteFromPrimitiveList/';
const ORDER = '$setElementOrder/';

/** A new object; neither argument is changed. */
export function strategicMerge(kind: string, target: JsonObject, patch: unknown): JsonObject {
  if (!isObject(patch)) throw badRequest('a strategic merge patch is an object');
  return mergeObject(kind, target, patch, []);
}

function mergeObject(
  kind: string,
  target: JsonObject,
  patch: JsonObject,
  path: readonly string[],
): JsonObject {
  const directive = patch.$patch;
  if (directive === 'replace') return withoutDirectives(patch) as JsonObject;
  if (directive === 'delete') return {};
  if (directive !== undefined && directive !== 'merge')
    throw badRequest(
      `unknown patch directive ${JSON.stringify(directive)}: delete, merge and replace are known`,
    );
  const merged: JsonObject = { ...target };
  const retained = patch.$retainKeys;
  if (Array.isArray(retained))
    for (const key of Object.keys(merged)) if (!retained.includes(key)) delete merged[key];
  for (const [key, value] of Object.entries(patch)) {
    if (key === '$patch' || key === '$retainKeys' || key.startsWith(ORDER)) continue;
    if (key.startsWith(DELETE_FROM)) {
      const name = key.slice(DELETE_FROM.length);
      const before = field(merged, name);
      if (Array.isArray(before) && Array.isArray(value))
        merged[name] = before.filter((item) => !value.some((gone) => equal(item, gone)));
    } else if (value === null) delete merged[key];
    else merged[key] = mergeValue(kind, field(merged, key), value, [...path, key]);
  }
  for (const [key, order] of Object.entries(patch))
    if (key.startsWith(ORDER) && Array.isArray(order))
      reorder(kind, merged, key.slice(ORDER.length), order, path);
  return merged;
}

function mergeValue(kind: string, target: unknown, patch: unknown, path: readonly string[]): unknown {
  if (isObject(patch)) return mergeObject(kind, isObject(target) ? target : {}, patch, path);
  if (Array.isArray(patch)) return mergeList(kind, Array.isArray(target) ? target : [], patch, path);
  return patch;
}

function mergeList(
  kind: string,
  target: readonly unknown[],
  patch: readonly unknown[],
  path: readonly string[],
): unknown[] {
  const how = listMerge(kind, path);
  if (how.kind === 'atomic') return withoutDirectives(patch) as unknown[];
  if (patch.some((item) => isObject(item) && item.$patch === 'replace' && Object.keys(item).length === 1))
    return withoutDirectives(
      patch.filter((item) => !(isObject(item) && item.$patch === 'replace')),
    ) as unknown[];
  if (how.kind === 'set')
    return [...target, ...patch.filter((item) => !target.some((other) => equal(item, other)))];
  const merged = [...target];
  for (const item of patch) {
    if (!isObject(item)) throw badRequest(`${path.join('.')}: every item of this list is an object`);
    const key = field(item, how.key);
    if (key === undefined)
      throw badRequest(`${path.join('.')}: map does not contain declared merge key: ${how.key}`);
    const index = merged.findIndex((other) => equal(field(other, how.key), key));
    if (item.$patch === 'delete') {
      if (index >= 0) merged.splice(index, 1);
    } else {
      const before = index < 0 ? {} : (merged[index] as JsonObject);
      const after = mergeObject(kind, before, item, path);
      if (index < 0) merged.push(after);
      else merged[index] = after;
    }
  }
  return merged;
}

/** Items named in the order stand in that order; the others keep their places behind them. */
function reorder(
  kind: string,
  merged: JsonObject,
  name: string,
  order: readonly unknown[],
  path: readonly string[],
): void {
  const list = field(merged, name);
  const how = listMerge(kind, [...path, name]);
  if (!Array.isArray(list) || how.kind === 'atomic') return;
  const identity = (item: unknown): unknown => (how.kind === 'map' ? field(item, how.key) : item);
  const position = (item: unknown): number =>
    order.findIndex((each) => equal(identity(each), identity(item)));
  const named = list.filter((item) => position(item) >= 0).sort((a, b) => position(a) - position(b));
  merged[name] = [...named, ...list.filter((item) => position(item) < 0)];
}

function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value))
    return value.filter((item) => !(isObject(item) && item.$patch === 'delete')).map(withoutDirectives);
  if (!isObject(value)) return clone(value);
  const kept: JsonObject = {};
  for (const [key, each] of Object.entries(value))
    if (!key.startsWith('$') && each !== null) kept[key] = withoutDirectives(each);
  return kept;
}
