// Strategic merge patch: like a merge patch, but lists with a merge key are merged item by item, as the schema says
// (x-kubernetes-patch-merge-key, -patch-strategy), and directives in the patch say more ($patch, $retainKeys,
// $deleteFromPrimitiveList, $setElementOrder). Lists: strategic-list.ts.

import { field, isObject, type JsonObject } from './object.ts';
import type { StructuralSchema } from './schema.ts';
import { badRequest } from './status.ts';
import { type ListMerge, mergeList, orderedList, withoutItems } from './strategic-list.ts';
import { goText, PATCH, plain } from './strategic-text.ts';

const RETAIN_KEYS = '$retainKeys';
const DELETE_FROM = '$deleteFromPrimitiveList/';
const ORDER = '$setElementOrder/';

/** A new object; neither argument is changed. Throws 400 for a patch that does not fit its own rules. */
export function strategicMerge(schema: StructuralSchema, target: JsonObject, patch: unknown): JsonObject {
  if (!isObject(patch)) throw badRequest('a strategic merge patch is an object');
  return mergeObject(schema, target, patch);
}

/** The schema of a field; nothing where the type does not know it, which validation will say after the merge. */
function below(schema: StructuralSchema | undefined, name: string): StructuralSchema | undefined {
  const own = field(schema?.properties, name) ?? schema?.additionalProperties;
  return isObject(own) ? (own as StructuralSchema) : undefined;
}

const strategiesOf = (schema: StructuralSchema | undefined): string[] =>
  (schema?.['x-kubernetes-patch-strategy'] ?? '').split(',');

function mergeObject(
  schema: StructuralSchema | undefined,
  target: JsonObject,
  patch: JsonObject,
): JsonObject {
  if (Object.hasOwn(patch, PATCH)) return directed(patch);
  const merged: JsonObject = { ...target };
  if (Object.hasOwn(patch, RETAIN_KEYS)) retain(merged, patch);
  const done = new Set<string>();
  for (const key of Object.keys(patch))
    if (key.startsWith(ORDER)) {
      const name = key.slice(ORDER.length);
      mergeOrdered(below(schema, name), merged, patch, name, patch[key]);
      done.add(name);
    }
  for (const [key, value] of Object.entries(patch)) {
    if (key === RETAIN_KEYS || key.startsWith(ORDER) || done.has(key)) continue;
    if (key.startsWith(DELETE_FROM)) deleteFrom(merged, key.slice(DELETE_FROM.length), value);
    else mergeField(below(schema, key), merged, key, value);
  }
  return merged;
}

/** `$patch` in an object: the rest of the patch in its place, or nothing. */
function directed(patch: JsonObject): JsonObject {
  const { [PATCH]: directive, ...rest } = patch;
  if (directive === 'replace') return plain(rest) as JsonObject;
  if (directive === 'delete') return {};
  throw badRequest(`unknown patch type: ${goText(directive)} in map: ${goText(patch)}`);
}

/** `$retainKeys` names every field that shall be left; a patch that sets another one contradicts itself. */
function retain(merged: JsonObject, patch: JsonObject): void {
  const keys = patch[RETAIN_KEYS];
  const contradicts = (key: string): boolean =>
    key !== RETAIN_KEYS &&
    !key.startsWith(ORDER) &&
    !key.startsWith(DELETE_FROM) &&
    patch[key] !== null &&
    !(keys as unknown[]).includes(key);
  if (!Array.isArray(keys) || Object.keys(patch).some(contradicts))
    throw badRequest('invalid patch format of retainKeys');
  for (const key of Object.keys(merged)) if (!keys.includes(key)) delete merged[key];
}

function mergeField(
  schema: StructuralSchema | undefined,
  merged: JsonObject,
  key: string,
  value: unknown,
): void {
  const present = field(merged, key);
  if (value === null || (isObject(value) && Object.hasOwn(value, PATCH) && !isObject(present)))
    delete merged[key];
  else if (isObject(value) && isObject(present))
    merged[key] = strategiesOf(schema).includes('replace')
      ? plain(value)
      : mergeObject(schema, present, value);
  else if (Array.isArray(value) && Array.isArray(present)) merged[key] = mergedLists(schema, present, value);
  else merged[key] = plain(value);
}

const ruleOf = (schema: StructuralSchema | undefined): ListMerge => ({
  mergeKey: schema?.['x-kubernetes-patch-merge-key'],
  mergeItem: (present, patch) => mergeObject(schema?.items, present, patch),
});

function mergedLists(
  schema: StructuralSchema | undefined,
  present: readonly unknown[],
  patch: readonly unknown[],
): unknown {
  return strategiesOf(schema).includes('merge') ? mergeList(ruleOf(schema), present, patch) : plain(patch);
}

/** `$setElementOrder/NAME`: the list of that name after its merge, in the order that the patch lists. */
function mergeOrdered(
  schema: StructuralSchema | undefined,
  merged: JsonObject,
  patch: JsonObject,
  name: string,
  order: unknown,
): void {
  const present = field(merged, name);
  const wanted = field(patch, name);
  for (const list of [order, present, wanted])
    if (list !== undefined && !Array.isArray(list))
      throw badRequest(`invalid patch format of setElementOrder list: ${name} is not a list`);
  merged[name] = orderedList(
    ruleOf(schema),
    present as readonly unknown[] | undefined,
    wanted as readonly unknown[] | undefined,
    order as readonly unknown[],
    () =>
      present === undefined
        ? (plain(wanted) as unknown[])
        : (mergedLists(schema, present as unknown[], wanted as unknown[]) as unknown[]),
  );
  if (merged[name] === undefined) delete merged[name];
}

function deleteFrom(merged: JsonObject, name: string, gone: unknown): void {
  const present = field(merged, name);
  if (Array.isArray(present) && Array.isArray(gone)) merged[name] = withoutItems(present, gone);
}
