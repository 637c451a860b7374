// Server-side apply, first form: what a manager applies is merged into the object; what the same manager applied
// before and leaves out now is removed, unless another manager applies it too. Ownership is tracked between appliers
// only: there are no conflicts, every apply is as if forced. The sets are kept as managedFields (FieldsV1).

import type { Kind } from './kind.ts';
import { listMerge } from './merge-keys.ts';
import {
  type ApiObject,
  clone,
  equal,
  field,
  isObject,
  type JsonObject,
  kubeTime,
  type ManagedFields,
} from './object.ts';
import type { StructuralSchema } from './schema.ts';
import { badRequest } from './status.ts';

/** A trie of FieldsV1: `f:name`, `k:{"name":"x"}`, `v:"x"`, and `.` for the item itself. A leaf is empty. */
export interface FieldSet {
  [key: string]: FieldSet;
}

type ListRule =
  | { readonly kind: 'atomic' }
  | { readonly kind: 'set' }
  | { readonly kind: 'map'; readonly keys: readonly string[] };

/** Where a value stands: enough to know how its lists merge. */
interface Place {
  readonly kind: Kind;
  readonly path: readonly string[];
  readonly schema: StructuralSchema | undefined;
}

const SYSTEM_META = new Set([
  'name',
  'namespace',
  'uid',
  'resourceVersion',
  'creationTimestamp',
  'generation',
  'managedFields',
  'selfLink',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'generateName',
]);

export interface ApplyOptions {
  readonly manager: string;
  readonly subresource: string;
  readonly nowMs: number;
}

/** The object after the apply; `live` is undefined when it is new. Neither argument is changed. */
export function applyObject(
  kind: Kind,
  live: ApiObject | undefined,
  applied: ApiObject,
  options: ApplyOptions,
): ApiObject {
  if (applied.metadata.managedFields !== undefined && applied.metadata.managedFields.length > 0)
    throw badRequest('metadata.managedFields must be nil');
  const configuration = ownable(kind, applied, options.subresource);
  const root: Place = { kind, path: [], schema: kind.schema };
  const wanted = setOf(root, configuration);
  const base = live === undefined ? envelopeOf(applied) : (clone(live) as ApiObject);
  const merged = merge(root, base, configuration) as ApiObject;
  const entries = live?.metadata.managedFields ?? [];
  const isOwn = (entry: ManagedFields): boolean =>
    entry.operation === 'Apply' &&
    entry.manager === options.manager &&
    (entry.subresource ?? '') === options.subresource;
  const before = entries.find(isOwn);
  const others = entries.filter((entry) => entry.operation === 'Apply' && !isOwn(entry));
  if (before?.fieldsV1 !== undefined)
    pruneSet(
      root,
      merged,
      before.fieldsV1 as FieldSet,
      wanted,
      others.map((entry) => (entry.fieldsV1 ?? {}) as FieldSet),
    );
  const unchanged = before !== undefined && equal(before.fieldsV1, wanted);
  const entry: ManagedFields = {
    manager: options.manager,
    operation: 'Apply',
    apiVersion: applied.apiVersion,
    time: unchanged && before.time !== undefined ? before.time : kubeTime(options.nowMs),
    fieldsType: 'FieldsV1',
    fieldsV1: wanted,
    ...(options.subresource === '' ? {} : { subresource: options.subresource }),
  };
  const rest = entries.filter((each) => !isOwn(each));
  // A manager that applies nothing owns nothing.
  merged.metadata.managedFields = Object.keys(wanted).length === 0 ? rest : [...rest, entry];
  return merged;
}

function envelopeOf(applied: ApiObject): ApiObject {
  const { name, namespace } = applied.metadata;
  const metadata = { name, ...(namespace === undefined ? {} : { namespace }) };
  return { apiVersion: applied.apiVersion, kind: applied.kind, metadata };
}

/** What can be owned: not the envelope, and status only through its own subresource. */
function ownable(kind: Kind, applied: ApiObject, subresource: string): JsonObject {
  const { apiVersion: _, kind: __, metadata, status, ...content } = applied;
  if (subresource === 'status') return status === undefined ? {} : { status };
  const meta = Object.fromEntries(Object.entries(metadata).filter(([name]) => !SYSTEM_META.has(name)));
  return {
    ...content,
    ...(kind.status || status === undefined ? {} : { status }),
    ...(Object.keys(meta).length === 0 ? {} : { metadata: meta }),
  };
}

const below = (place: Place, name: string): Place => ({
  kind: place.kind,
  path: [...place.path, name],
  schema: field(place.schema?.properties, name) as StructuralSchema | undefined,
});
const itemOf = (place: Place): Place => ({ ...place, schema: place.schema?.items });

function listRule({ kind, path, schema }: Place): ListRule {
  if (kind.schema !== undefined && path[0] !== 'metadata') {
    const keys = schema?.['x-kubernetes-list-map-keys'];
    if (schema?.['x-kubernetes-list-type'] === 'map' && keys !== undefined) return { kind: 'map', keys };
    return schema?.['x-kubernetes-list-type'] === 'set' ? { kind: 'set' } : { kind: 'atomic' };
  }
  const rule = listMerge(kind.kind, path);
  if (rule.kind !== 'map') return rule;
  // Two ports of one number differ by protocol, which is part of their identity here though not in patches.
  return { kind: 'map', keys: path.at(-1) === 'ports' ? [rule.key, 'protocol'] : [rule.key] };
}

/** Canonical: keys sorted, and a missing protocol is the default that will be filled in. */
function identityOf(item: JsonObject, keys: readonly string[]): string {
  const identity: JsonObject = {};
  for (const key of [...keys].sort()) {
    const value = field(item, key) ?? (key === 'protocol' ? 'TCP' : undefined);
    if (value !== undefined) identity[key] = value;
  }
  return `k:${JSON.stringify(identity)}`;
}

const isStructured = (value: unknown): value is JsonObject =>
  isObject(value) && Object.keys(value).length > 0;

function setOf(place: Place, value: JsonObject): FieldSet {
  const set: FieldSet = {};
  for (const [name, child] of Object.entries(value)) set[`f:${name}`] = childSet(below(place, name), child);
  return set;
}

function childSet(place: Place, value: unknown): FieldSet {
  if (isStructured(value)) return setOf(place, value);
  if (!Array.isArray(value)) return {};
  const rule = listRule(place);
  const set: FieldSet = {};
  if (rule.kind === 'set') for (const item of value) set[`v:${JSON.stringify(item)}`] = {};
  if (rule.kind === 'map')
    for (const item of value.filter(isObject))
      set[identityOf(item, rule.keys)] = { '.': {}, ...setOf(itemOf(place), item) };
  return set;
}

function merge(place: Place, live: unknown, applied: unknown): unknown {
  if (isObject(applied)) {
    const merged: JsonObject = isObject(live) ? live : {};
    for (const [name, value] of Object.entries(applied))
      merged[name] = merge(below(place, name), field(merged, name), value);
    return merged;
  }
  if (!Array.isArray(applied) || !Array.isArray(live)) return clone(applied);
  const rule = listRule(place);
  if (rule.kind === 'atomic') return clone(applied);
  if (rule.kind === 'set')
    return [...live, ...applied.filter((item) => !live.some((other) => equal(item, other)))];
  const merged: unknown[] = [...live];
  for (const item of applied.filter(isObject)) {
    const identity = identityOf(item, rule.keys);
    const index = merged.findIndex((other) => isObject(other) && identityOf(other, rule.keys) === identity);
    if (index < 0) merged.push(clone(item));
    else merged[index] = merge(itemOf(place), merged[index], item);
  }
  return merged;
}

/** Removes from `live` what `old` holds and neither `wanted` nor any other set does. */
function pruneSet(
  place: Place,
  live: JsonObject,
  old: FieldSet,
  wanted: FieldSet,
  others: readonly FieldSet[],
): void {
  for (const [key, oldChild] of Object.entries(old)) {
    if (!key.startsWith('f:')) continue;
    const name = key.slice(2);
    if (!Object.hasOwn(live, name)) continue;
    const wantedChild = field(wanted, key) as FieldSet | undefined;
    const otherChildren = others.map((set) => field(set, key)).filter(isObject) as FieldSet[];
    const value = live[name];
    const leaf = Object.keys(oldChild).length === 0;
    if (leaf || (!isObject(value) && !Array.isArray(value))) {
      if (wantedChild === undefined && otherChildren.length === 0) delete live[name];
      continue;
    }
    if (Array.isArray(value))
      live[name] = pruneList(below(place, name), value, oldChild, wantedChild ?? {}, otherChildren);
    else pruneSet(below(place, name), value as JsonObject, oldChild, wantedChild ?? {}, otherChildren);
    const empty = Array.isArray(live[name])
      ? live[name].length === 0
      : Object.keys(live[name] as JsonObject).length === 0;
    if (empty && wantedChild === undefined && otherChildren.length === 0) delete live[name];
  }
}

function pruneList(
  place: Place,
  live: readonly unknown[],
  old: FieldSet,
  wanted: FieldSet,
  others: readonly FieldSet[],
): unknown[] {
  const rule = listRule(place);
  return live.filter((item) => {
    const key =
      rule.kind === 'map' && isObject(item) ? identityOf(item, rule.keys) : `v:${JSON.stringify(item)}`;
    const oldItem = field(old, key) as FieldSet | undefined;
    if (oldItem === undefined) return true;
    const wantedItem = field(wanted, key) as FieldSet | undefined;
    const otherItems = others.map((set) => field(set, key)).filter(isObject) as FieldSet[];
    if (wantedItem === undefined && otherItems.length === 0) return false;
    if (isObject(item)) pruneSet(itemOf(place), item, oldItem, wantedItem ?? {}, otherItems);
    return true;
  });
}
