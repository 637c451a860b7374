// OpenAPI v3 as kubectl needs it: one document per group and version. Custom resources publish their real schema;
// built-in kinds an open one. Patch operations name `fieldValidation`, which tells kubectl that the server checks
// fields itself, and do not name strategic merge, so that kubectl uses its own knowledge of built-in kinds.

import { etagOf } from './discovery.ts';
import type { Kind } from './kind.ts';
import type { JsonObject } from './object.ts';
import type { Registry } from './registry.ts';

const pathOf = (kind: Pick<Kind, 'group' | 'version'>): string =>
  kind.group === '' ? `api/${kind.version}` : `apis/${kind.group}/${kind.version}`;

export class OpenApi {
  readonly #registry: Registry;
  #revision = -1;
  #documents = new Map<string, { readonly text: string; readonly hash: string }>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  index(): JsonObject {
    this.#refresh();
    const paths: JsonObject = {};
    for (const [path, { hash }] of this.#documents)
      paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` };
    return { paths };
  }

  /** JSON text of one document: `api/v1`, `apis/apps/v1`. */
  document(path: string): string | undefined {
    this.#refresh();
    return this.#documents.get(path)?.text;
  }

  #refresh(): void {
    if (this.#revision === this.#registry.revision) return;
    this.#revision = this.#registry.revision;
    const byPath = new Map<string, Kind[]>();
    for (const kind of this.#registry.kinds) {
      const kinds = byPath.get(pathOf(kind));
      if (kinds === undefined) byPath.set(pathOf(kind), [kind]);
      else kinds.push(kind);
    }
    this.#documents = new Map(
      [...byPath].map(([path, kinds]) => {
        const text = JSON.stringify(documentOf(path, kinds));
        return [path, { text, hash: etagOf(text).slice(1, -1).toUpperCase() }];
      }),
    );
  }
}

function documentOf(path: string, kinds: readonly Kind[]): JsonObject {
  const paths: JsonObject = {};
  const schemas: JsonObject = { [OBJECT_META]: OPEN_OBJECT };
  for (const kind of kinds) {
    const collection = `/${path}/${kind.namespaced ? 'namespaces/{namespace}/' : ''}${kind.plural}`;
    const name = schemaName(kind);
    const content = { 'application/json': { schema: { $ref: `#/components/schemas/${name}` } } };
    const responses = { '200': { description: 'OK', content } };
    const gvk = { group: kind.group, version: kind.version, kind: kind.kind };
    const operation = (action: string, extra: JsonObject = {}): JsonObject => ({
      responses,
      'x-kubernetes-action': action,
      'x-kubernetes-group-version-kind': gvk,
      ...extra,
    });
    const write = { parameters: WRITE_PARAMETERS };
    paths[collection] = {
      get: operation('list'),
      post: operation('post', { ...write, requestBody: { content: { '*/*': content['application/json'] } } }),
    };
    paths[`${collection}/{name}`] = {
      get: operation('get'),
      put: operation('put', { ...write, requestBody: { content: { '*/*': content['application/json'] } } }),
      patch: operation('patch', { ...write, requestBody: { content: patchContent() } }),
      delete: operation('delete'),
    };
    schemas[name] = { ...schemaOf(kind), 'x-kubernetes-group-version-kind': [gvk] };
  }
  return {
    openapi: '3.0.0',
    info: INFO,
    paths,
    components: { schemas },
  };
}

const INFO = { title: 'Kubernetes', version: 'v1.37.0' };

/**
 * The older description, asked for by kubectl up to 1.29. It names no types, so that such a client checks nothing
 * itself and merges built-in kinds by its own knowledge; but it must exist.
 */
export const OPENAPI_V2: JsonObject = { swagger: '2.0', info: INFO, paths: {}, definitions: {} };

/** The same as `openapi.v2.Document` of gnostic: swagger = 1, info = 2 (title = 1, version = 2), paths = 8, definitions = 9. */
export function openApiV2Protobuf(): Buffer {
  const bytes = (tag: number, content: Buffer): Buffer =>
    Buffer.concat([Buffer.from([(tag << 3) | 2, content.length]), content]);
  const text = (tag: number, content: string): Buffer => bytes(tag, Buffer.from(content));
  return Buffer.concat([
    text(1, '2.0'),
    bytes(2, Buffer.concat([text(1, INFO.title), text(2, INFO.version)])),
    text(8, ''),
    text(9, ''),
  ]);
}

/** With a dot before `v1.0`: older clients take no other spelling. */
export const OPENAPI_V2_PROTOBUF_TYPE = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';

const OBJECT_META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';
const OPEN_OBJECT: JsonObject = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
const META_REF: JsonObject = { allOf: [{ $ref: `#/components/schemas/${OBJECT_META}` }], default: {} };

const WRITE_PARAMETERS = ['dryRun', 'fieldManager', 'fieldValidation'].map((name) => ({
  name,
  in: 'query',
  schema: { type: 'string', uniqueItems: true },
}));

function patchContent(): JsonObject {
  const schema = { type: 'object' };
  return Object.fromEntries(
    ['application/apply-patch+yaml', 'application/json-patch+json', 'application/merge-patch+json'].map(
      (type) => [type, { schema }],
    ),
  );
}

function schemaName({ group, version, kind, schema }: Kind): string {
  if (schema !== undefined) return `${group.split('.').reverse().join('.')}.${version}.${kind}`;
  const folder = group === '' ? 'core' : group.replace(/\.k8s\.io$/, '');
  return `io.k8s.api.${folder}.${version}.${kind}`;
}

function schemaOf(kind: Kind): JsonObject {
  const envelope = { apiVersion: { type: 'string' }, kind: { type: 'string' }, metadata: META_REF };
  if (kind.schema === undefined) return { ...OPEN_OBJECT, properties: envelope };
  return { ...kind.schema, properties: { ...kind.schema.properties, ...envelope } };
}
