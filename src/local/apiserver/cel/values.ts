// From an object and its schema to what CEL sees: integers are integers, fields have their escaped names, and what the
// schema does not name cannot be reached.

import { isObject, type JsonObject } from '../object.ts';
import type { StructuralSchema } from '../schema.ts';
import { formatted } from './engine.ts';

const KEYWORDS: ReadonlySet<string> = new Set(
  'true false null in as break const continue else for function if import let loop package namespace return void while var'.split(
    ' ',
  ),
);

/** A property as a rule must write it: `__namespace__`, `a__dash__b`; undefined when no rule can. */
export function escapedName(name: string): string | undefined {
  if (KEYWORDS.has(name)) return `__${name}__`;
  const escaped = name
    .replaceAll('__', '__underscores__')
    .replaceAll('.', '__dot__')
    .replaceAll('-', '__dash__')
    .replaceAll('/', '__slash__');
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(escaped) ? escaped : undefined;
}

export function celValue(schema: StructuralSchema | undefined, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => celValue(schema?.items, item));
  if (isObject(value)) return objectValue(schema, value);
  if (typeof value === 'string' && schema?.format !== undefined) return formatted(schema.format, value);
  if (typeof value !== 'number') return value ?? null;
  if (schema?.type === 'number') return value;
  return Number.isInteger(value) ? BigInt(value) : value;
}

function objectValue(schema: StructuralSchema | undefined, value: JsonObject): Map<string, unknown> {
  const found = new Map<string, unknown>();
  const { properties, additionalProperties } = schema ?? {};
  // Without a description every field is as it is.
  const free = schema === undefined || (properties === undefined && additionalProperties === undefined);
  for (const [name, each] of Object.entries(value)) {
    if (each === undefined) continue;
    if (properties !== undefined && Object.hasOwn(properties, name)) {
      const escaped = escapedName(name);
      if (escaped !== undefined) found.set(escaped, celValue(properties[name], each));
    } else if (isObject(additionalProperties))
      found.set(name, celValue(additionalProperties as StructuralSchema, each));
    else if (free || additionalProperties === true) found.set(name, celValue(undefined, each));
  }
  return found;
}

/** The root shows what every object has: its type, and of metadata the name only. */
export function rootValue(schema: StructuralSchema, object: JsonObject): Map<string, unknown> {
  const { metadata, apiVersion, kind, ...content } = object;
  const root = objectValue(schema, content);
  root.set('apiVersion', apiVersion);
  root.set('kind', kind);
  const names = isObject(metadata) ? metadata : {};
  root.set(
    'metadata',
    new Map(
      ['name', 'generateName'].filter((name) => names[name] !== undefined).map((name) => [name, names[name]]),
    ),
  );
  return root;
}
