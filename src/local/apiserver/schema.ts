// Structural schemas: unknown fields, defaults, checks. A plain walk over the schema; CEL rules
// (x-kubernetes-validations) are evaluated in cel/rules.ts.

import { clone, equal, isObject, type JsonObject } from './object.ts';
import { duplicate, type FieldError, invalid, notSupported, required, typeInvalid } from './status.ts';

/** The part of OpenAPI v3 that structural schemas use. */
export interface StructuralSchema {
  type?: string;
  format?: string;
  description?: string;
  nullable?: boolean;
  default?: unknown;
  enum?: unknown[];
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: boolean;
  exclusiveMaximum?: boolean;
  multipleOf?: number;
  minItems?: number;
  maxItems?: number;
  minProperties?: number;
  maxProperties?: number;
  required?: string[];
  properties?: Record<string, StructuralSchema>;
  additionalProperties?: boolean | StructuralSchema;
  items?: StructuralSchema;
  allOf?: StructuralSchema[];
  anyOf?: StructuralSchema[];
  oneOf?: StructuralSchema[];
  not?: StructuralSchema;
  'x-kubernetes-preserve-unknown-fields'?: boolean;
  'x-kubernetes-int-or-string'?: boolean;
  'x-kubernetes-embedded-resource'?: boolean;
  'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  'x-kubernetes-list-map-keys'?: string[];
  'x-kubernetes-map-type'?: 'atomic' | 'granular';
  /** Strategic merge; built-in kinds only. The strategy is `merge`, `replace`, `retainKeys` or two joined by a comma. */
  'x-kubernetes-patch-merge-key'?: string;
  'x-kubernetes-patch-strategy'?: string;
  /** Built-in kinds only: the name that Kubernetes' decoding errors give the type, where nothing else here tells it. */
  'x-go-type'?: string;
  /** CEL rules (cel/rules.ts). */
  'x-kubernetes-validations'?: unknown[];
}

const ENVELOPE = new Set(['apiVersion', 'kind', 'metadata']);

/** Removes what the schema does not know, in place, and answers the paths removed (`spec.rules[0].form`). */
export function prune(schema: StructuralSchema, root: JsonObject): string[] {
  const unknown: string[] = [];
  pruneValue(schema, root, '', unknown, true);
  return unknown;
}

function pruneValue(
  schema: StructuralSchema,
  value: unknown,
  path: string,
  unknown: string[],
  envelope: boolean,
): void {
  if (Array.isArray(value)) {
    const items = schema.items;
    if (items !== undefined)
      value.forEach((item, index) => {
        pruneValue(items, item, `${path}[${index}]`, unknown, false);
      });
    return;
  }
  if (!isObject(value)) return;
  const keepEnvelope = envelope || schema['x-kubernetes-embedded-resource'] === true;
  const additional = schema.additionalProperties;
  for (const key of Object.keys(value)) {
    if (keepEnvelope && ENVELOPE.has(key)) continue;
    const childPath = path === '' ? key : `${path}.${key}`;
    const property = own(schema.properties, key);
    if (property !== undefined) pruneValue(property, value[key], childPath, unknown, false);
    else if (isObject(additional))
      pruneValue(additional as StructuralSchema, value[key], childPath, unknown, false);
    else if (additional !== true && schema['x-kubernetes-preserve-unknown-fields'] !== true) {
      unknown.push(childPath);
      delete value[key];
    }
  }
}

/** Fills absent fields that have a default, in place; a null is replaced where null is not allowed. */
export function applyDefaults(schema: StructuralSchema, value: unknown): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined) for (const item of value) applyDefaults(schema.items, item);
    return;
  }
  if (!isObject(value)) return;
  for (const [key, property] of Object.entries(schema.properties ?? {})) {
    const absent = !Object.hasOwn(value, key) || (value[key] === null && property.nullable !== true);
    if (absent && property.default !== undefined) value[key] = clone(property.default);
    if (Object.hasOwn(value, key)) applyDefaults(property, value[key]);
  }
  if (isObject(schema.additionalProperties))
    for (const key of Object.keys(value))
      if (own(schema.properties, key) === undefined)
        applyDefaults(schema.additionalProperties as StructuralSchema, value[key]);
}

/** Every breach of the schema below a value. */
export function validateSchema(schema: StructuralSchema, value: unknown, path: string): FieldError[] {
  const errors: FieldError[] = [];
  check(schema, value, path, errors);
  return errors;
}

function check(schema: StructuralSchema, value: unknown, path: string, errors: FieldError[]): void {
  if (value === null && schema.nullable === true) return;
  if (schema['x-kubernetes-int-or-string'] === true) {
    if (typeof value !== 'string' && !Number.isInteger(value))
      errors.push(
        typeInvalid(path, shown(value), `${path} in body must be of type integer,string: "${typeOf(value)}"`),
      );
  } else if (schema.type !== undefined && !hasType(schema.type, value)) {
    errors.push(
      typeInvalid(path, shown(value), `${path} in body must be of type ${schema.type}: "${typeOf(value)}"`),
    );
    return;
  }
  if (schema.enum !== undefined && !schema.enum.some((allowed) => equal(allowed, value)))
    errors.push(notSupported(path, value, schema.enum));
  if (typeof value === 'string') checkString(schema, value, path, errors);
  else if (typeof value === 'number') checkNumber(schema, value, path, errors);
  else if (Array.isArray(value)) checkList(schema, value, path, errors);
  else if (isObject(value)) checkObject(schema, value, path, errors);
  checkCombinations(schema, value, path, errors);
}

/** Lists and objects are named, not shown, as Kubernetes does. */
const shown = (value: unknown): unknown =>
  Array.isArray(value) ? 'array' : isObject(value) ? 'object' : value;

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value;
}

function hasType(type: string, value: unknown): boolean {
  const found = typeOf(value);
  return found === type || (type === 'number' && found === 'integer');
}

function checkString(schema: StructuralSchema, value: string, path: string, errors: FieldError[]): void {
  const length = schema.maxLength === undefined && schema.minLength === undefined ? 0 : [...value].length;
  if (schema.minLength !== undefined && length < schema.minLength)
    errors.push(invalid(path, value, `${path} in body should be at least ${schema.minLength} chars long`));
  if (schema.maxLength !== undefined && length > schema.maxLength)
    errors.push({ path, type: 'TooLong', message: `may not be more than ${schema.maxLength} bytes` });
  if (schema.pattern !== undefined && !matches(schema.pattern, value))
    errors.push(invalid(path, value, `${path} in body should match '${schema.pattern}'`));
  if (schema.format === 'date-time' && Number.isNaN(Date.parse(value)))
    errors.push(invalid(path, value, `${path} in body must be of type date-time: ${JSON.stringify(value)}`));
}

/** Go's expressions and ours agree on what CRDs use; one that does not compile here is not enforced. */
function matches(pattern: string, value: string): boolean {
  try {
    return new RegExp(pattern, 'u').test(value);
  } catch {
    return true;
  }
}

function checkNumber(schema: StructuralSchema, value: number, path: string, errors: FieldError[]): void {
  const { minimum, maximum, multipleOf } = schema;
  if (minimum !== undefined && (schema.exclusiveMinimum === true ? value <= minimum : value < minimum))
    errors.push(
      invalid(
        path,
        value,
        `${path} in body should be greater than ${schema.exclusiveMinimum === true ? '' : 'or equal to '}${minimum}`,
      ),
    );
  if (maximum !== undefined && (schema.exclusiveMaximum === true ? value >= maximum : value > maximum))
    errors.push(
      invalid(
        path,
        value,
        `${path} in body should be less than ${schema.exclusiveMaximum === true ? '' : 'or equal to '}${maximum}`,
      ),
    );
  if (multipleOf !== undefined && !Number.isInteger(value / multipleOf))
    errors.push(invalid(path, value, `${path} in body should be a multiple of ${multipleOf}`));
}

function checkList(schema: StructuralSchema, value: unknown[], path: string, errors: FieldError[]): void {
  if (schema.minItems !== undefined && value.length < schema.minItems)
    errors.push(invalid(path, value.length, `${path} in body should have at least ${schema.minItems} items`));
  if (schema.maxItems !== undefined && value.length > schema.maxItems)
    errors.push({
      path,
      type: 'TooMany',
      message: `${value.length}: must have at most ${schema.maxItems} items`,
    });
  const keys = schema['x-kubernetes-list-map-keys'];
  const seen: unknown[] = [];
  value.forEach((item, index) => {
    if (schema.items !== undefined) check(schema.items, item, `${path}[${index}]`, errors);
    const identity =
      schema['x-kubernetes-list-type'] === 'set'
        ? item
        : schema['x-kubernetes-list-type'] === 'map' && keys !== undefined && isObject(item)
          ? Object.fromEntries(keys.map((key) => [key, item[key]]))
          : undefined;
    if (identity === undefined) return;
    if (seen.some((other) => equal(other, identity))) errors.push(duplicate(`${path}[${index}]`, identity));
    seen.push(identity);
  });
}

function checkObject(schema: StructuralSchema, value: JsonObject, path: string, errors: FieldError[]): void {
  const keys = Object.keys(value);
  if (schema.minProperties !== undefined && keys.length < schema.minProperties)
    errors.push(
      invalid(path, keys.length, `${path} in body should have at least ${schema.minProperties} properties`),
    );
  if (schema.maxProperties !== undefined && keys.length > schema.maxProperties)
    errors.push({
      path,
      type: 'TooMany',
      message: `${keys.length}: must have at most ${schema.maxProperties} items`,
    });
  for (const name of schema.required ?? [])
    if (!Object.hasOwn(value, name)) errors.push(required(join(path, name)));
  for (const key of keys) {
    const property = own(schema.properties, key);
    if (property !== undefined) check(property, value[key], join(path, key), errors);
    else if (isObject(schema.additionalProperties))
      check(schema.additionalProperties as StructuralSchema, value[key], join(path, key), errors);
  }
}

function checkCombinations(
  schema: StructuralSchema,
  value: unknown,
  path: string,
  errors: FieldError[],
): void {
  for (const part of schema.allOf ?? []) check(part, value, path, errors);
  const passes = (part: StructuralSchema): boolean => validateSchema(part, value, path).length === 0;
  if (schema.anyOf !== undefined && !schema.anyOf.some(passes))
    errors.push(invalid(path, shown(value), `${path} in body must validate at least one schema (anyOf)`));
  if (schema.oneOf !== undefined) {
    const count = schema.oneOf.filter(passes).length;
    if (count !== 1)
      errors.push(
        invalid(
          path,
          shown(value),
          `${path} in body must validate one and only one schema (oneOf). Found ${count === 0 ? 'none' : count} valid alternatives`,
        ),
      );
  }
  if (schema.not !== undefined && passes(schema.not)) errors.push(refusedBy(schema.not, value, path));
}

/** `not: {required: [a, b]}` is how schemas say "not both". */
function refusedBy(schema: StructuralSchema, value: unknown, path: string): FieldError {
  if (schema.required !== undefined && Object.keys(schema).length === 1)
    return invalid(path, shown(value), `may not set ${schema.required.join(' and ')} together`);
  return invalid(path, shown(value), `${path} in body must not validate the schema (not)`);
}

const join = (path: string, name: string): string => (path === '' ? name : `${path}.${name}`);

function own(
  properties: Record<string, StructuralSchema> | undefined,
  key: string,
): StructuralSchema | undefined {
  return properties !== undefined && Object.hasOwn(properties, key) ? properties[key] : undefined;
}
