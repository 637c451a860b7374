// Objects of built-in kinds as a typed server reads them: wrong types are refused in the words of Go's JSON decoder, null
// is absent, quantities and times get their one form, and unknown fields are found at any depth.

import { isObject, type JsonObject } from './object.ts';
import { canonicalQuantity } from './quantity.ts';
import type { StructuralSchema } from './schema.ts';
import { base64Fault, timeFault } from './typed-text.ts';

/** The sentence says what could not be read, as Kubernetes says it: `json: cannot unmarshal string into …`. */
export class TypedError extends Error {}

export interface UnknownField {
  /** `spec.template.spec.containers[0].imagge` */
  readonly path: string;
  /** Where it stands still: the caller decides whether it goes. */
  readonly parent: JsonObject;
  readonly name: string;
}

/** As many as Kubernetes collects. */
const MAX_UNKNOWN = 100;

/**
 * Brings `root` into form, in place, and answers the fields that its schema does not know. `at` is where `root` itself
 * stands in the object, '' for the whole. Throws TypedError at the first value of a wrong type.
 */
export function readTyped(schema: StructuralSchema, root: JsonObject, at = ''): UnknownField[] {
  const reader = new TypedReader(at === '' ? [] : [at]);
  reader.read(schema, root);
  return reader.unknown;
}

class TypedReader {
  readonly unknown: UnknownField[] = [];
  /** Names from the root for Go's sentences (list positions left out), and the innermost struct. */
  readonly #fields: string[];
  #struct = '';
  /** The same with positions, for the paths of unknown fields. */
  readonly #path: string[];

  constructor(at: readonly string[]) {
    this.#fields = [...at];
    this.#path = [...at];
  }

  /** The value in its one form. */
  read(schema: StructuralSchema, value: unknown): unknown {
    if (schema['x-kubernetes-int-or-string'] === true) return this.#intOrString(value);
    switch (schema.type) {
      case 'string':
        return this.#string(schema, value);
      case 'integer':
        return this.#integer(schema, value);
      case 'number':
      case 'boolean':
        if (typeof value !== schema.type) throw this.#wrongType(schema, value);
        return value;
      case 'array':
        return this.#array(schema, value);
      case 'object':
        if (schema['x-kubernetes-preserve-unknown-fields'] === true) return value;
        if (!isObject(value)) throw this.#wrongType(schema, value);
        if (isObject(schema.additionalProperties)) this.#map(schema.additionalProperties, value);
        else this.#structure(schema, value);
        return value;
      default:
        return value;
    }
  }

  #structure(schema: StructuralSchema, value: JsonObject): void {
    const struct = this.#struct;
    const properties = schema.properties ?? {};
    for (const name of Object.keys(value)) {
      const property = Object.hasOwn(properties, name) ? properties[name] : undefined;
      if (property === undefined) {
        if (this.unknown.length < MAX_UNKNOWN)
          this.unknown.push({ path: pathText([...this.#path, name]), parent: value, name });
      } else if (value[name] === null) delete value[name];
      else {
        this.#struct = shortName(schema);
        this.#fields.push(name);
        this.#path.push(name);
        value[name] = this.read(property, value[name]);
        this.#path.pop();
        this.#fields.pop();
      }
    }
    this.#struct = struct;
  }

  /** Keys are data: they stand in paths and not in Go's sentences. */
  #map(values: StructuralSchema, value: JsonObject): void {
    for (const key of Object.keys(value)) {
      this.#path.push(key);
      value[key] = value[key] === null ? zero(values) : this.read(values, value[key]);
      this.#path.pop();
    }
  }

  #array(schema: StructuralSchema, value: unknown): unknown {
    if (!Array.isArray(value)) throw this.#wrongType(schema, value);
    const { items } = schema;
    if (items === undefined) return value;
    value.forEach((item, index) => {
      this.#path.push(`[${index}]`);
      value[index] = item === null ? zero(items) : this.read(items, item);
      this.#path.pop();
    });
    return value;
  }

  #string(schema: StructuralSchema, value: unknown): unknown {
    if (schema.format === 'quantity') {
      const quantity = canonicalQuantity(typeof value === 'string' ? value : JSON.stringify(value));
      if ('error' in quantity) throw new TypedError(quantity.error);
      return quantity.text;
    }
    if (typeof value !== 'string')
      throw this.#cannot(jsonType(value), schema.format === 'date-time' ? 'string' : goType(schema));
    if (schema.format === 'byte') {
      const fault = base64Fault(value);
      if (fault !== undefined) throw new TypedError(`illegal base64 data at input byte ${fault}`);
      return value.replace(/[\r\n]/g, '');
    }
    if (schema.format !== 'date-time') return value;
    const micro = schema['x-go-type'] === 'v1.MicroTime';
    const fault = timeFault(value, micro);
    if (fault !== undefined) throw new TypedError(fault);
    const whole = new Date(`${value.slice(0, 19)}${/(?:Z|[+-]\d\d:\d\d)$/.exec(value)![0]}`).toISOString();
    return micro ? `${whole.slice(0, 19)}.${value.slice(20, 26)}Z` : `${whole.slice(0, 19)}Z`;
  }

  #integer(schema: StructuralSchema, value: unknown): unknown {
    if (typeof value !== 'number') throw this.#wrongType(schema, value);
    const limit = schema.format === 'int32' ? 2 ** 31 : 2 ** 63;
    if (!Number.isInteger(value) || value < -limit || value >= limit)
      throw this.#cannot(`number ${value}`, goType(schema));
    return value;
  }

  #intOrString(value: unknown): unknown {
    if (typeof value === 'string') return value;
    if (typeof value !== 'number') throw this.#cannot(jsonType(value), 'int32');
    return this.#integer({ format: 'int32' }, value);
  }

  #wrongType(schema: StructuralSchema, value: unknown): TypedError {
    return this.#cannot(jsonType(value), goType(schema));
  }

  #cannot(found: string, wanted: string): TypedError {
    const into =
      this.#struct === '' && this.#fields.length === 0
        ? 'Go value'
        : `Go struct field ${this.#struct === '' ? '' : `${this.#struct}.`}${this.#place()}`;
    return new TypedError(`json: cannot unmarshal ${found} into ${into} of type ${wanted}`);
  }

  #place(): string {
    return this.#fields.join('.');
  }
}

/** The names as Go writes them: `[0]` follows without a dot. */
const pathText = (path: readonly string[]): string =>
  path.reduce((text, name) => (text === '' || /^\[\d+\]$/.test(name) ? text + name : `${text}.${name}`), '');

const jsonType = (value: unknown): string =>
  Array.isArray(value) ? 'array' : typeof value === 'boolean' ? 'bool' : typeof value;

const shortName = (schema: StructuralSchema): string => (schema['x-go-type'] ?? '').split('.').at(-1)!;

const GO_TYPES: Readonly<Record<string, string>> = { boolean: 'bool', number: 'float64', string: 'string' };

function goType(schema: StructuralSchema): string {
  if (schema['x-go-type'] !== undefined) return schema['x-go-type'];
  if (schema.type === 'array') return `[]${goType(schema.items ?? {})}`;
  if (isObject(schema.additionalProperties)) return `map[string]${goType(schema.additionalProperties)}`;
  if (schema.format === 'byte') return '[]uint8';
  if (schema.type === 'integer' || schema['x-kubernetes-int-or-string'] === true)
    return schema.format ?? 'int32';
  return GO_TYPES[schema.type ?? ''] ?? 'interface {}';
}

/** What Go leaves where null stands in a list or a map. */
function zero(schema: StructuralSchema): unknown {
  switch (schema.type) {
    case 'string':
      return schema.format === 'quantity' ? '0' : '';
    case 'integer':
    case 'number':
      return 0;
    case 'boolean':
      return false;
    case 'array':
      return [];
    default:
      // A raw value may well be null.
      return schema['x-kubernetes-preserve-unknown-fields'] === true ? null : {};
  }
}
