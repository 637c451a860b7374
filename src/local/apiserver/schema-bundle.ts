// The schemas of Kubernetes' built-in kinds, generated from its public Go types (tools/k8s-schema). Read on first use:
// a process that never asks pays nothing.

import { readFileSync } from 'node:fs';
import { isObject, type JsonObject } from './object.ts';
import type { StructuralSchema } from './schema.ts';

/** A node as it stands in the file: other types are named, not repeated. */
export interface RawSchema extends JsonObject {
  readonly $ref?: string;
}

export interface RawBundle {
  /** `v1/Pod`, `apps/v1/Deployment` → the name of its type. */
  readonly kinds: Readonly<Record<string, string>>;
  /** `io.k8s.api.core.v1.PodSpec` → its schema. */
  readonly schemas: Record<string, RawSchema>;
}

let linked:
  | { readonly kinds: RawBundle['kinds']; readonly schemas: Record<string, StructuralSchema> }
  | undefined;

/**
 * The schema of a built-in kind; its root lists apiVersion, kind and metadata as well. Nodes are shared between kinds
 * and the graph has cycles (JSONSchemaProps): neither change nor clone one. Quantities are strings of format
 * `quantity`; `default` stands where OpenAPI declares one, which is not wherever Kubernetes fills one in.
 */
export function builtInSchema(group: string, version: string, kind: string): StructuralSchema | undefined {
  linked ??= link(readBundle());
  const key = kindKey(group, version, kind);
  return Object.hasOwn(linked.kinds, key) ? linked.schemas[linked.kinds[key]!] : undefined;
}

export const kindKey = (group: string, version: string, kind: string): string =>
  group === '' ? `${version}/${kind}` : `${group}/${version}/${kind}`;

/** A fresh copy, references kept by name: what OpenAPI documents are made of. */
export function readBundle(): RawBundle {
  return JSON.parse(dataFile('schemas.json').toString()) as RawBundle;
}

/** Source and bundle lie in different folders; package.json says for both where the data is. */
export function dataFile(name: string): Buffer {
  return readFileSync(new URL(import.meta.resolve(`#local/apiserver/data/${name}`)));
}

/** Metadata is the same for every kind, custom ones included. */
export function objectMetaSchema(): StructuralSchema {
  return builtInSchema('', 'v1', 'ConfigMap')!.properties!.metadata!;
}

const HOLDERS = ['items', 'additionalProperties'];
const isName = (node: unknown): boolean => isObject(node) && typeof node.$ref === 'string';

/** Puts the schema itself where its name stood. */
function link({ kinds, schemas }: RawBundle): NonNullable<typeof linked> {
  const target = (name: string): RawSchema => {
    const found = Object.hasOwn(schemas, name) ? schemas[name] : undefined;
    if (found === undefined) throw new Error(`the schema bundle names ${name} and does not hold it`);
    return found;
  };
  const resolve = (node: unknown): unknown => {
    if (!isObject(node)) return node;
    const { $ref, ...own } = node;
    if (typeof $ref !== 'string') {
      visit(node);
      return node;
    }
    if (Object.keys(own).length === 0) return target($ref);
    // What stands beside a name adds to the type, for this field only. Everything below is shared with the type and
    // linked there, but for a name that the copy holds itself.
    const copy: JsonObject = { ...target($ref), ...own };
    for (const name of HOLDERS) if (isName(copy[name])) copy[name] = resolve(copy[name]);
    return copy;
  };
  const visit = (node: JsonObject): void => {
    for (const name of HOLDERS) if (node[name] !== undefined) node[name] = resolve(node[name]);
    const { properties } = node;
    if (isObject(properties))
      for (const name of Object.keys(properties)) properties[name] = resolve(properties[name]);
  };
  for (const [name, schema] of Object.entries(schemas)) {
    // io.k8s.api.core.v1.PodSpec is v1.PodSpec in Go.
    if (schema.properties !== undefined)
      (schema as JsonObject)['x-go-type'] = name.split('.').slice(-2).join('.');
    visit(schema);
  }
  return { kinds, schemas: schemas as Record<string, StructuralSchema> };
}
