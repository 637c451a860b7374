// OpenAPI as kubectl needs it: version 3, one document per group and version, and version 2, one for all, for kubectl up
// to 1.26. Patch operations name `fieldValidation`, which tells kubectl that the server checks fields itself, and built-in
// kinds name strategic merge, with the merge keys in their schemas.

import { etagOf } from './discovery.ts';
import type { Kind } from './kind.ts';
import { VIRTUAL_KINDS, type VirtualKind } from './kinds.ts';
import type { JsonObject } from './object.ts';
import { customSchema, type Dialect, OBJECT_META, Publisher, refTo } from './openapi-schemas.ts';
import type { Registry } from './registry.ts';
import { dataFile, kindKey } from './schema-bundle.ts';

const INFO = { title: 'Kubernetes', version: 'v1.37.0' };

const pathOf = ({ group, version }: Pick<Kind, 'group' | 'version'>): string =>
  group === '' ? `api/${version}` : `apis/${group}/${version}`;

interface Group {
  readonly kinds: Kind[];
  readonly questions: VirtualKind[];
  hash: string;
}

export class OpenApi {
  readonly #registry: Registry;
  #revision = -1;
  #groups = new Map<string, Group>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  index(): JsonObject {
    const paths: JsonObject = {};
    for (const [path, { hash }] of this.#current())
      paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` };
    return { paths };
  }

  /** Version 3: JSON text of one group and version, `api/v1` or `apis/apps/v1`, made when it is asked for. */
  document(path: string): { readonly text: string; readonly etag: string } | undefined {
    const group = this.#current().get(path);
    if (group === undefined) return undefined;
    const publisher = new Publisher('v3');
    const paths = publish(publisher, 'v3', group.kinds, group.questions);
    const components = { schemas: publisher.schemas };
    return {
      text: JSON.stringify({ openapi: '3.0.0', info: INFO, paths, components }),
      etag: `"${group.hash}"`,
    };
  }

  /** Version 2: everything that is served. */
  swagger(): JsonObject {
    const publisher = new Publisher('v2');
    const paths = publish(publisher, 'v2', this.#registry.kinds, VIRTUAL_KINDS);
    return { swagger: '2.0', info: INFO, paths, definitions: publisher.schemas };
  }

  #current(): ReadonlyMap<string, Group> {
    if (this.#revision === this.#registry.revision) return this.#groups;
    this.#revision = this.#registry.revision;
    this.#groups = new Map();
    const groupOf = (kind: Kind | VirtualKind): Group => {
      const path = pathOf(kind);
      const known = this.#groups.get(path) ?? { kinds: [], questions: [], hash: '' };
      this.#groups.set(path, known);
      return known;
    };
    for (const kind of this.#registry.kinds) groupOf(kind).kinds.push(kind);
    for (const question of VIRTUAL_KINDS) groupOf(question).questions.push(question);
    // Built-in schemas change with the bundle only, whose hashes are in its manifest.
    const bundle = dataFile('manifest.json').toString();
    for (const group of this.#groups.values()) {
      const content = group.kinds.map(({ kind, plural, status, schema }) => [kind, plural, status, schema]);
      const text = JSON.stringify([bundle, content, group.questions.map(({ kind }) => kind)]);
      group.hash = etagOf(text).slice(1, -1).toUpperCase();
    }
    return this.#groups;
  }
}

/** Adds the kinds' schemas to the publisher and answers their paths. */
function publish(
  publisher: Publisher,
  dialect: Dialect,
  kinds: readonly Kind[],
  questions: readonly VirtualKind[],
): JsonObject {
  const paths: JsonObject = {};
  publisher.add(OBJECT_META);
  for (const kind of kinds) {
    const gvk = { group: kind.group, version: kind.version, kind: kind.kind };
    const published = { 'x-kubernetes-group-version-kind': [gvk] };
    const name = schemaName(publisher, kind);
    if (kind.schema === undefined) publisher.add(name, published);
    else publisher.schemas[name] = { ...customSchema(kind.schema, dialect), ...published };
    const verbs = operations(dialect, name, gvk, kind.schema === undefined);
    const collection = `/${pathOf(kind)}/${kind.namespaced ? 'namespaces/{namespace}/' : ''}${kind.plural}`;
    paths[collection] = { get: verbs.list, post: verbs.post };
    paths[`${collection}/{name}`] = {
      get: verbs.get,
      put: verbs.put,
      patch: verbs.patch,
      delete: verbs.delete,
    };
  }
  for (const question of questions) {
    const { group, version, kind } = question;
    const gvk = { group, version, kind };
    const name = publisher.nameOf(kindKey(group, version, kind));
    publisher.add(name, { 'x-kubernetes-group-version-kind': [gvk] });
    const scope = question.namespaced ? 'namespaces/{namespace}/' : '';
    paths[`/${pathOf(question)}/${scope}${question.plural}`] = {
      post: operations(dialect, name, gvk, true).post,
    };
  }
  return paths;
}

function schemaName(publisher: Publisher, { group, version, kind, schema }: Kind): string {
  if (schema === undefined) return publisher.nameOf(kindKey(group, version, kind));
  return `${group.split('.').reverse().join('.')}.${version}.${kind}`;
}

const PATCH_TYPES = [
  'application/apply-patch+yaml',
  'application/json-patch+json',
  'application/merge-patch+json',
];
const STRATEGIC = 'application/strategic-merge-patch+json';

type Operations = Readonly<Record<'list' | 'get' | 'post' | 'put' | 'patch' | 'delete', JsonObject>>;

/** As little of each as clients look at: what it does, to which kind, and what may be asked of a write. */
function operations(dialect: Dialect, name: string, gvk: JsonObject, strategic: boolean): Operations {
  const schema = refTo(dialect, name);
  const patchTypes = strategic ? [...PATCH_TYPES, STRATEGIC] : PATCH_TYPES;
  const content = { 'application/json': { schema } };
  const ok = dialect === 'v2' ? { description: 'OK', schema } : { description: 'OK', content };
  const operation = (action: string, extra: JsonObject = {}): JsonObject => ({
    responses: { '200': ok },
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': gvk,
    ...extra,
  });
  const write = (action: string, types: readonly string[]): JsonObject =>
    operation(
      action,
      dialect === 'v2'
        ? { consumes: types, parameters: WRITE_PARAMETERS.map((each) => ({ ...each, ...STRING })) }
        : {
            parameters: WRITE_PARAMETERS.map((each) => ({ ...each, schema: STRING })),
            requestBody: {
              content: Object.fromEntries(
                types.map((type) => [type, { schema: action === 'patch' ? { type: 'object' } : schema }]),
              ),
            },
          },
    );
  return {
    list: operation('list'),
    get: operation('get'),
    post: write('post', ['*/*']),
    put: write('put', ['*/*']),
    patch: write('patch', patchTypes),
    delete: operation('delete'),
  };
}

const STRING = { type: 'string', uniqueItems: true };
const WRITE_PARAMETERS = ['dryRun', 'fieldManager', 'fieldValidation'].map((name) => ({ name, in: 'query' }));
