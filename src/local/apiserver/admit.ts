// What every written object passes: its envelope, its metadata, unknown fields, defaults, checks.

import type { Kind } from './kind.ts';
import { checkMeta } from './names.ts';
import { type ApiMeta, type ApiObject, isObject, type JsonObject } from './object.ts';
import { applyDefaults, prune } from './schema.ts';
import { badRequest, invalidObject } from './status.ts';

export interface WriteOptions {
  readonly dryRun: boolean;
  readonly fieldManager: string;
  readonly fieldValidation: 'Ignore' | 'Warn' | 'Strict';
  /** Collected for `Warning:` headers. */
  readonly warnings: string[];
}

const ENVELOPE: ReadonlySet<string> = new Set(['apiVersion', 'kind', 'metadata']);
const META_FIELDS: ReadonlySet<string> = new Set([
  'name',
  'namespace',
  'generateName',
  'selfLink',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'labels',
  'annotations',
  'ownerReferences',
  'finalizers',
  'managedFields',
]);

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
  if (!isObject(value)) throw cannotRead(kind, 'metadata', 'an object');
  const meta = dropNulls(value);
  for (const name of ['name', 'namespace', 'generateName', 'uid', 'resourceVersion'])
    if (meta[name] !== undefined && typeof meta[name] !== 'string')
      throw cannotRead(kind, `metadata.${name}`, 'a string');
  for (const name of ['labels', 'annotations']) {
    const map = meta[name];
    if (map === undefined) continue;
    if (!isObject(map)) throw cannotRead(kind, `metadata.${name}`, 'a map of strings');
    for (const [key, each] of Object.entries(map))
      if (typeof each !== 'string')
        throw cannotRead(kind, `metadata.${name}[${JSON.stringify(key)}]`, 'a string');
    if (Object.keys(map).length === 0) delete meta[name];
  }
  if (meta.finalizers !== undefined) {
    if (!Array.isArray(meta.finalizers) || meta.finalizers.some((each) => typeof each !== 'string'))
      throw cannotRead(kind, 'metadata.finalizers', 'a list of strings');
    if (meta.finalizers.length === 0) delete meta.finalizers;
  }
  if (meta.ownerReferences !== undefined) {
    if (!Array.isArray(meta.ownerReferences) || !meta.ownerReferences.every(isObject))
      throw cannotRead(kind, 'metadata.ownerReferences', 'a list of objects');
    if (meta.ownerReferences.length === 0) delete meta.ownerReferences;
  }
  if (meta.managedFields !== undefined && !Array.isArray(meta.managedFields))
    throw cannotRead(kind, 'metadata.managedFields', 'a list');
  meta.name ??= '';
  if (meta.namespace === '') delete meta.namespace;
  return meta as unknown as ApiMeta;
}

const cannotRead = (kind: Kind, path: string, wanted: string): Error =>
  badRequest(
    `${kind.kind} in version ${JSON.stringify(kind.version)} cannot be handled as a ${kind.kind}: ${path} must be ${wanted}`,
  );

/** Unknown fields are dropped with a warning, or refused: as asked, and always for security policies. */
export function checkUnknownFields(kind: Kind, object: ApiObject, options: WriteOptions): void {
  const unknown = Object.keys(object.metadata)
    .filter((name) => !META_FIELDS.has(name))
    .map((name) => {
      delete (object.metadata as unknown as JsonObject)[name];
      return `metadata.${name}`;
    });
  if (kind.schema !== undefined) unknown.push(...prune(kind.schema, object));
  else
    for (const name of Object.keys(object))
      if (!ENVELOPE.has(name) && !kind.rootFields.includes(name)) {
        delete object[name];
        unknown.push(name);
      }
  if (unknown.length === 0) return;
  const sentences = unknown.map((path) => `unknown field ${JSON.stringify(path)}`);
  if (kind.alwaysStrict || options.fieldValidation === 'Strict')
    throw badRequest(
      `${kind.kind} in version ${JSON.stringify(kind.version)} cannot be handled as a ${kind.kind}: strict decoding error: ${sentences.join(', ')}`,
    );
  if (options.fieldValidation === 'Warn') options.warnings.push(...sentences);
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
