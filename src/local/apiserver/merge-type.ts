// What a schema says about merging: which maps and lists have owners for their parts and which only as a whole, and how
// items of a list are told apart. Made from a schema on first use, node by node, and kept with it.

import { keyElement, valueElement } from './field-set.ts';
import type { Kind } from './kind.ts';
import { field, isObject, type JsonObject } from './object.ts';
import type { StructuralSchema } from './schema.ts';
import { builtInSchema, objectMetaSchema } from './schema-bundle.ts';

/** A value may take any of the forms that are present; most types have one. */
export interface MergeType {
  readonly scalar: 'string' | 'number' | 'boolean' | 'any' | undefined;
  readonly list: ListType | undefined;
  readonly map: MapType | undefined;
  readonly nullable: boolean;
}

export interface ListType {
  readonly rule: 'atomic' | 'set' | 'map';
  /** Of a map: the fields that identify an item. */
  readonly keys: readonly string[];
  readonly items: () => MergeType;
  /** What identifies the item, as an element of a field set; otherwise why nothing does. */
  readonly identify: (item: unknown) => Identity;
}

export interface MapType {
  readonly atomic: boolean;
  /** The type of a field; undefined when the schema does not know the field. */
  readonly child: (name: string) => MergeType | undefined;
  /** A field of a struct, not a key of a map. */
  readonly isField: (name: string) => boolean;
}

export type Identity = { readonly element: string } | { readonly problem: string };

const ATOMIC_LIST: ListType = {
  rule: 'atomic',
  keys: [],
  items: () => UNTYPED,
  identify: () => ({ problem: 'this list has no keys' }),
};

/** Nothing is known: maps are merged key by key, lists replaced whole. */
export const UNTYPED: MergeType = {
  scalar: 'any',
  list: ATOMIC_LIST,
  map: { atomic: false, child: () => UNTYPED, isField: () => false },
  nullable: false,
};

const roots = new WeakMap<Kind, MergeType>();

export function mergeTypeOf(kind: Kind): MergeType {
  let type = roots.get(kind);
  if (type === undefined) {
    type = rootType(kind.schema ?? builtInSchema(kind.group, kind.version, kind.kind) ?? {});
    roots.set(kind, type);
  }
  return type;
}

/** Of a whole object. A definition without a schema says nothing of its content. */
export function rootType(schema: StructuralSchema): MergeType {
  const isBare = Object.keys(schema.properties ?? {}).length === 0;
  return typeOf(
    withEnvelope(isBare ? { ...schema, 'x-kubernetes-preserve-unknown-fields': true } : schema),
    false,
  );
}

const TEXT: StructuralSchema = { type: 'string' };

/** Definitions leave apiVersion and kind out and say "object" of metadata; all of them mean Kubernetes' own. */
function withEnvelope(schema: StructuralSchema): StructuralSchema {
  const { properties = {} } = schema;
  const metadata = properties.metadata?.properties === undefined ? objectMetaSchema() : properties.metadata;
  return {
    ...schema,
    type: 'object',
    properties: { apiVersion: TEXT, kind: TEXT, ...properties, metadata },
  };
}

/** The type of what an element of a field set stands for. */
export function typeBelow({ map, list }: MergeType, element: string): MergeType | undefined {
  if (element.startsWith('f:')) return map?.child(element.slice(2));
  return element.startsWith('k:') ? list?.items() : undefined;
}

const known = {
  plain: new WeakMap<StructuralSchema, MergeType>(),
  open: new WeakMap<StructuralSchema, MergeType>(),
};

/** `open`: unknown fields are kept here, because a schema above says so. */
function typeOf(schema: StructuralSchema, open: boolean): MergeType {
  const isOpen = open || schema['x-kubernetes-preserve-unknown-fields'] === true;
  const cache = isOpen ? known.open : known.plain;
  let type = cache.get(schema);
  if (type === undefined) {
    const isEmbedded = schema['x-kubernetes-embedded-resource'] === true;
    type = makeType(isEmbedded ? withEnvelope(schema) : schema, isOpen);
    cache.set(schema, type);
  }
  return type;
}

function makeType(schema: StructuralSchema, open: boolean): MergeType {
  const nullable = schema.nullable === true;
  const one = (part: Partial<MergeType>): MergeType => ({
    scalar: undefined,
    list: undefined,
    map: undefined,
    nullable,
    ...part,
  });
  // A quantity may be written as a number.
  if (schema['x-kubernetes-int-or-string'] === true || schema.format === 'quantity')
    return one({ scalar: 'any' });
  switch (schema.type) {
    case 'string':
    case 'boolean':
      return one({ scalar: schema.type });
    case 'integer':
    case 'number':
      return one({ scalar: 'number' });
    case 'array':
      return one({ list: listType(schema, open) });
    case 'object':
      return one({ map: mapType(schema, open) });
    default:
      return schema.properties === undefined && !isObject(schema.additionalProperties)
        ? { ...UNTYPED, nullable }
        : one({ map: mapType(schema, open) });
  }
}

function mapType(schema: StructuralSchema, open: boolean): MapType {
  const { properties, additionalProperties } = schema;
  const isField = (name: string): boolean => properties !== undefined && Object.hasOwn(properties, name);
  const other = isObject(additionalProperties)
    ? (additionalProperties as StructuralSchema)
    : additionalProperties === true ||
        (additionalProperties === undefined && (open || properties === undefined))
      ? undefined
      : 'none';
  return {
    atomic: schema['x-kubernetes-map-type'] === 'atomic',
    isField,
    child: (name) => {
      if (isField(name)) return typeOf(properties![name]!, open);
      if (other === 'none') return undefined;
      return other === undefined ? UNTYPED : typeOf(other, open);
    },
  };
}

function listType(schema: StructuralSchema, open: boolean): ListType {
  const { items } = schema;
  if (items === undefined) return ATOMIC_LIST;
  const [rule, keys] = listRule(schema);
  const type = (): MergeType => typeOf(items, open);
  return {
    rule,
    keys,
    items: type,
    identify: rule === 'map' ? byKeys(keys, items) : rule === 'set' ? byValue : ATOMIC_LIST.identify,
  };
}

/** The list type where one is declared, otherwise what the patch strategy implies. */
function listRule(schema: StructuralSchema): [ListType['rule'], readonly string[]] {
  const declared = schema['x-kubernetes-list-type'];
  if (declared !== undefined) return [declared, schema['x-kubernetes-list-map-keys'] ?? []];
  if (!(schema['x-kubernetes-patch-strategy'] ?? '').split(',').includes('merge')) return ['atomic', []];
  const key = schema['x-kubernetes-patch-merge-key'];
  return key === undefined ? ['set', []] : ['map', [key]];
}

/** A missing key counts as its default: two ports of one number are told apart by a protocol nobody wrote. */
function byKeys(keys: readonly string[], items: StructuralSchema): ListType['identify'] {
  const defaults = keys.map((key) => items.properties?.[key]?.default);
  return (item) => {
    if (item === null) return { problem: 'associative list with keys may not have a null element' };
    if (!isObject(item)) return { problem: 'associative list with keys may not have non-map elements' };
    const found: JsonObject = {};
    keys.forEach((key, index) => {
      const value = field(item, key) ?? defaults[index];
      if (value !== undefined) found[key] = value;
    });
    if (Object.keys(found).length === 0)
      return {
        problem: `associative list with keys has an element that omits all key fields [${keys.map((key) => JSON.stringify(key)).join(' ')}] (and doesn't have default values for any key fields)`,
      };
    return { element: keyElement(found) };
  };
}

function byValue(item: unknown): Identity {
  if (item === null)
    return { problem: "associative list without keys has an element that's an explicit null" };
  if (Array.isArray(item)) return { problem: 'not supported: associative list with lists as elements' };
  if (isObject(item)) return { problem: "associative list without keys has an element that's a map type" };
  return { element: valueElement(item) };
}
