// Schemas as OpenAPI documents publish them: the bundle's types with their descriptions, and those of custom resources,
// in the dialect of version 3 or of version 2.

import { gunzipSync } from 'node:zlib';
import { isObject, type JsonObject } from './object.ts';
import type { StructuralSchema } from './schema.ts';
import { dataFile, type RawBundle, type RawSchema, readBundle } from './schema-bundle.ts';

export type Dialect = 'v2' | 'v3';

export const OBJECT_META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';

const PREFIX = { v2: '#/definitions/', v3: '#/components/schemas/' } as const;

export const refTo = (dialect: Dialect, name: string): JsonObject => ({ $ref: PREFIX[dialect] + name });

interface Described {
  readonly self?: string;
  readonly fields?: Readonly<Record<string, string>>;
}

/**
 * Publishes types by name, and whatever they refer to, into `schemas`. Reads the bundle and its descriptions afresh:
 * clients ask once and keep the answer, so half a megabyte of text is not kept here.
 */
export class Publisher {
  readonly schemas: JsonObject = {};
  readonly #dialect: Dialect;
  readonly #bundle: RawBundle = readBundle();
  readonly #descriptions: Readonly<Record<string, Described>>;

  constructor(dialect: Dialect) {
    this.#dialect = dialect;
    const file = JSON.parse(gunzipSync(dataFile('descriptions.json.gz')).toString()) as {
      descriptions: Record<string, Described>;
    };
    this.#descriptions = file.descriptions;
  }

  /** The name of a built-in kind's type. `key` as `kindKey` makes it. */
  nameOf(key: string): string {
    const name = this.#bundle.kinds[key];
    if (name === undefined) throw new Error(`the schema bundle does not hold ${key}`);
    return name;
  }

  add(name: string, extra: JsonObject = {}): void {
    if (Object.hasOwn(this.schemas, name)) {
      Object.assign(this.schemas[name] as JsonObject, extra);
      return;
    }
    const described = this.#descriptions[name] ?? {};
    const schema: JsonObject = {
      ...(described.self === undefined ? {} : { description: described.self }),
      ...extra,
    };
    this.schemas[name] = schema;
    Object.assign(schema, this.#node(this.#bundle.schemas[name]!, described.fields));
  }

  #node(node: RawSchema, fields: Described['fields'] = {}, description = ''): JsonObject {
    const shown: JsonObject = description === '' ? {} : { description };
    if (node['x-kubernetes-int-or-string'] === true)
      return this.#dialect === 'v2'
        ? { ...shown, type: 'string', format: 'int-or-string' }
        : { ...shown, format: 'int-or-string', oneOf: [{ type: 'integer' }, { type: 'string' }] };
    if (node.format === 'quantity')
      return this.#dialect === 'v2'
        ? { ...shown, type: 'string' }
        : { ...shown, oneOf: [{ type: 'string' }, { type: 'number' }] };
    const { $ref, properties, items, additionalProperties, ...rest } = node;
    delete rest['x-go-type'];
    delete rest['x-kubernetes-preserve-unknown-fields'];
    Object.assign(shown, rest);
    if (isObject(properties))
      shown.properties = Object.fromEntries(
        Object.entries(properties).map(([name, property]) => [
          name,
          this.#node(property as RawSchema, {}, fields[name]),
        ]),
      );
    if (isObject(items)) shown.items = this.#node(items);
    if (isObject(additionalProperties)) shown.additionalProperties = this.#node(additionalProperties);
    if ($ref === undefined) return shown;
    this.add($ref);
    const reference = refTo(this.#dialect, $ref);
    // Version 3 takes nothing beside a reference.
    if (this.#dialect === 'v2' || Object.keys(shown).length === 0) return { ...shown, ...reference };
    return { ...shown, allOf: [reference] };
  }
}

/** A custom resource's schema; its envelope is that of every kind. */
export function customSchema(schema: StructuralSchema, dialect: Dialect): JsonObject {
  const own = (dialect === 'v2' ? plain(schema) : schema) as JsonObject;
  const meta = refTo(dialect, OBJECT_META);
  return {
    type: 'object',
    ...own,
    properties: {
      ...(own.properties as JsonObject | undefined),
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      metadata: dialect === 'v2' ? meta : { allOf: [meta], default: {} },
    },
  };
}

/**
 * Version 2 knows neither alternatives nor null, and clients that read it check against it themselves: where it cannot
 * say what is allowed, it says nothing.
 */
function plain(schema: StructuralSchema): JsonObject {
  const { description } = schema;
  const shown: JsonObject = description === undefined ? {} : { description };
  if (
    schema.nullable === true ||
    schema['x-kubernetes-int-or-string'] === true ||
    schema['x-kubernetes-preserve-unknown-fields'] === true
  )
    return shown;
  const { type, format, required, properties, items, additionalProperties } = schema;
  if (type !== undefined) shown.type = type;
  if (format !== undefined) shown.format = format;
  if (required !== undefined) shown.required = required;
  if (properties !== undefined)
    shown.properties = Object.fromEntries(
      Object.entries(properties).map(([name, property]) => [name, plain(property)]),
    );
  if (items !== undefined) shown.items = plain(items);
  if (typeof additionalProperties === 'object') shown.additionalProperties = plain(additionalProperties);
  return shown;
}
