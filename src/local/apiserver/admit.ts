// What every written object passes: its envelope, its metadata, unknown fields, defaults, checks.

import type { Kind } from './kind.ts';
import { checkMeta } from './names.ts';
import { type ApiMeta, type ApiObject, isObject, type JsonObject } from './object.ts';
import { applyDefaults, prune, type StructuralSchema } from './schema.ts';
import { builtInSchema, objectMetaSchema } from './schema-bundle.ts';
import { badRequest, invalidObject } from './status.ts';
import { readTyped, TypedError, type UnknownField } from './typed.ts';
import type { User } from './user-info.ts';

/** What names a type in the schema bundle. */
export type TypeName = Pick<Kind, 'group' | 'version' | 'kind'>;

export interface WriteOptions {
  readonly dryRun: boolean;
  readonly fieldManager: string;
  readonly fieldValidation: 'Ignore' | 'Warn' | 'Strict';
  /** Collected for `Warning:` headers. */
  readonly warnings: string[];
  /** Paths that the body names twice (JSON takes the last one); asked for only where it matters. */
  readonly duplicateFields?: () => readonly string[];
  /** Who writes; absent for the server itself. */
  readonly user?: User;
}

/**
 * A private copy with a well-formed envelope: apiVersion, kind and namespace of the request, metadata of the right
 * types. Custom resources are stored under one version.
 */
export function envelope(kind: Kind, body: JsonObject, namespace: string | undefined): ApiObject {
  const { apiVersion, kind: bodyKind } = body;
  if (apiVersion !== undefined && apiVersion !== kind.apiVersion && apiVersion !== kind.storageApiVersion)
    throw badRequest(
      `the API version in the data (${String(apiVersion)}) does not match the expected API version (${kind.apiVersion})`,
    );
  if (bodyKind !== undefined && bodyKind !== kind.kind)
    throw badRequest(
      `${String(bodyKind)} in version ${JSON.stringify(apiVersion ?? kind.version)} cannot be handled as a ${kind.kind}`,
    );
  const metadata = metaOf(kind, body.metadata ?? {});
  if (kind.namespaced) {
    if (metadata.namespace !== undefined && metadata.namespace !== namespace)
      throw badRequest(
        'the namespace of the provided object does not match the namespace sent on the request',
      );
    if (namespace !== undefined) metadata.namespace = namespace;
  } else delete metadata.namespace;
  const content = kind.schema === undefined ? dropNulls(body) : body;
  return { ...content, apiVersion: kind.storageApiVersion, kind: kind.kind, metadata };
}

/** Typed servers read null as absent; so do we for kinds without a schema. */
function dropNulls(value: JsonObject): JsonObject {
  const kept: JsonObject = {};
  for (const [key, child] of Object.entries(value)) if (child !== null) kept[key] = withoutNulls(child);
  return kept;
}
const withoutNulls = (value: unknown): unknown =>
  Array.isArray(value) ? value.map(withoutNulls) : isObject(value) ? dropNulls(value) : value;

function metaOf(kind: Kind, value: unknown): ApiMeta {
  if (!isObject(value))
    throw cannotHandle(
      kind,
      `json: cannot unmarshal ${typeof value} into Go struct field ${kind.kind}.metadata of type v1.ObjectMeta`,
    );
  const meta = dropNulls(value);
  // Unknown fields stay until checkFields knows what to do with them.
  readForm(kind, objectMetaSchema(), meta, 'metadata');
  for (const name of ['labels', 'annotations', 'finalizers', 'ownerReferences']) {
    const content = meta[name];
    if (content !== undefined && Object.keys(content as object).length === 0) delete meta[name];
  }
  meta.name ??= '';
  if (meta.namespace === '') delete meta.namespace;
  return meta as unknown as ApiMeta;
}

const cannotHandle = ({ kind, version }: TypeName, why: string): Error =>
  badRequest(`${kind} in version ${JSON.stringify(version)} cannot be handled as a ${kind}: ${why}`);

/**
 * Brings an object into the form of its types. Wrong types are refused; unknown fields are dropped with a warning, or
 * refused: as asked, and always for security policies.
 */
export function checkFields(kind: Kind, object: ApiObject, options: WriteOptions): void {
  if (kind.schema === undefined) {
    const found = readForm(kind, builtIn(kind), object);
    report(kind, remove(found), options, kind.alwaysStrict);
    return;
  }
  const meta = readForm(kind, objectMetaSchema(), object.metadata as unknown as JsonObject, 'metadata');
  report(kind, [...remove(meta), ...prune(kind.schema, object)], options, kind.alwaysStrict);
}

/** The same for what is never stored: questions, options, the bodies of subresources. */
export function checkBody(type: TypeName, body: JsonObject, options: WriteOptions): void {
  report(type, remove(readForm(type, builtIn(type), body)), options, false);
}

/** Takes the fields away and answers their paths. */
function remove(found: readonly UnknownField[]): string[] {
  for (const { parent, name } of found) delete parent[name];
  return found.map(({ path }) => path);
}

function report(type: TypeName, unknown: readonly string[], options: WriteOptions, always: boolean): void {
  const strict = always || options.fieldValidation === 'Strict';
  const twice = strict || options.fieldValidation === 'Warn' ? (options.duplicateFields?.() ?? []) : [];
  if (unknown.length + twice.length === 0) return;
  const sentences = [
    ...unknown.map((path) => `unknown field ${JSON.stringify(path)}`),
    ...twice.map((path) => `duplicate field ${JSON.stringify(path)}`),
  ];
  if (strict) throw cannotHandle(type, `strict decoding error: ${sentences.join(', ')}`);
  if (options.fieldValidation === 'Warn') options.warnings.push(...sentences);
}

/** Throws 400 at a value of a wrong type. */
function readForm(type: TypeName, schema: StructuralSchema, value: JsonObject, at = ''): UnknownField[] {
  try {
    return readTyped(schema, value, at);
  } catch (error) {
    if (!(error instanceof TypedError)) throw error;
    throw cannotHandle(type, error.message);
  }
}

function builtIn({ group, version, kind }: TypeName): StructuralSchema {
  const schema = builtInSchema(group, version, kind);
  if (schema === undefined) throw new Error(`the schema bundle does not hold ${group}/${version} ${kind}`);
  return schema;
}

export function fillDefaults(kind: Kind, object: ApiObject): void {
  if (kind.schema !== undefined) applyDefaults(kind.schema, object);
  kind.strategy.defaults?.(object);
}

export function validate(kind: Kind, object: ApiObject, old: ApiObject | undefined): void {
  const errors = [
    ...checkMeta(object.metadata, kind.strategy.nameRule),
    ...(kind.strategy.validate?.(object, old) ?? []),
  ];
  if (errors.length > 0) throw invalidObject(kind, object.metadata.name, errors);
}
