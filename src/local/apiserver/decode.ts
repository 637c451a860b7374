// Request bodies: JSON, YAML or protobuf to objects. Hostile shapes are refused early.

import { parse as parseYaml } from 'yaml';
import { reasonOf } from '#base/errors.ts';
import { isObject, type JsonObject } from './object.ts';
import { decodeProtobuf } from './protobuf.ts';
import { badRequest, unsupportedMediaType } from './status.ts';

const MAX_DEPTH = 200;
const MAX_YAML_ALIASES = 100;

export type BodyType = 'json' | 'yaml';

/** `application/json; charset=utf-8` → `application/json`; kubectl 1.20 sends none at all, which means JSON. */
export function mediaType(header: string | undefined): string {
  const type = (header ?? '').split(';', 1)[0]!.trim().toLowerCase();
  return type === '' ? 'application/json' : type;
}

export function decodeObject(body: Buffer, contentType: string | undefined): JsonObject {
  const type = mediaType(contentType);
  if (type === 'application/vnd.kubernetes.protobuf') {
    const object = decodeProtobuf(body);
    inspect(object, 0);
    return object;
  }
  if (type === 'application/cbor')
    throw unsupportedMediaType('CBOR request bodies are not served by this API server; send JSON or YAML');
  if (type !== 'application/json' && type !== 'application/yaml')
    throw unsupportedMediaType(
      `the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf`,
    );
  const value = decode(body, type === 'application/yaml' ? 'yaml' : 'json');
  if (!isObject(value)) throw badRequest('the body of the request is not an object');
  return value;
}

/** Any JSON value (patches are lists too). Throws 400 with the parser's own sentence. */
export function decode(body: Buffer, type: BodyType): unknown {
  let value: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(body);
    value = type === 'yaml' ? parseYaml(text, { maxAliasCount: MAX_YAML_ALIASES }) : JSON.parse(text);
  } catch (error) {
    throw badRequest(`the body of the request cannot be read as ${type.toUpperCase()}: ${reasonOf(error)}`);
  }
  inspect(value, 0);
  return value;
}

/** A field named `__proto__` would reach prototypes when merged; endless nesting would exhaust the stack. */
function inspect(value: unknown, depth: number): void {
  if (depth > MAX_DEPTH)
    throw badRequest(`the body of the request is nested deeper than ${MAX_DEPTH} levels`);
  if (Array.isArray(value)) for (const item of value) inspect(item, depth + 1);
  else if (isObject(value))
    for (const key of Object.keys(value)) {
      if (key === '__proto__') throw badRequest('a field may not be named "__proto__"');
      inspect(value[key], depth + 1);
    }
}
