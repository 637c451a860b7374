// Manifest files: YAML text to objects, and objects to the API server in an order in which they can stand.

import { type Document, LineCounter, type ParsedNode, parseAllDocuments } from 'yaml';
import { sleep } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from './client.ts';
import { createResourceFinder, discoverGroupVersion } from './discovery.ts';
import { CUSTOM_RESOURCE_DEFINITIONS } from './mesh-objects.ts';
import type { KubeObject, Resource } from './objects.ts';
import { apiStatusOf, isConflict, isNotFound } from './status.ts';

/** How long a new CustomResourceDefinition may take until its objects are accepted. */
const CRD_SERVED_LIMIT_MS = 10_000;
const CRD_POLL_MS = 50;
const DEFAULT_NAMESPACE = 'default';

/**
 * Every object of a (multi-document) YAML or JSON text, `List` kinds unfolded. Throws MANIFEST_INVALID with the source's
 * name, the number of the document (from 1) and the line.
 */
export function parseManifests(text: string, sourceName: string): KubeObject[] {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, {
    lineCounter: lines,
    // kubectl reads YAML 1.1 (`yes` is true, 0644 is octal), but keeps times as text.
    version: '1.1',
    customTags: (tags) =>
      tags.filter(
        (tag) =>
          typeof tag === 'string' || (tag.tag !== 'tag:yaml.org,2002:timestamp' && tag.format !== 'TIME'),
      ),
  });
  const objects: KubeObject[] = [];
  for (const [index, document] of [...documents].entries()) {
    const place = (line: number): string => `${sourceName}, document ${index + 1}, line ${line}`;
    const [problem] = document.errors;
    if (problem !== undefined)
      throw invalid(
        `${place(problem.linePos?.[0].line ?? 1)}: ${problem.message.split('\n')[0]?.replace(/ at line \d+.*$/, '')}`,
      );
    const line = lines.linePos(startOf(document)).line;
    const value = toValue(document, place(line));
    if (value !== null && value !== undefined) collect(value, place(line), objects);
  }
  return objects;
}

const invalid = (message: string, cause?: unknown): MeshError =>
  new MeshError('MANIFEST_INVALID', message, cause === undefined ? {} : { cause });

const startOf = (document: Document.Parsed<ParsedNode>): number =>
  document.contents?.range[0] ?? document.range[0];

function toValue(document: Document.Parsed<ParsedNode>, place: string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    // An alias without anchor, or aliases that multiply without end.
    throw invalid(`${place}: ${reasonOf(error)}`, error);
  }
}

function collect(value: unknown, place: string, into: KubeObject[]): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(`${place}: this is no Kubernetes object`);
  const object = value as Partial<KubeObject> & { items?: unknown };
  for (const field of ['apiVersion', 'kind'] as const)
    if (typeof object[field] !== 'string' || object[field] === '')
      throw invalid(`${place}: the object has no ${field}`);
  if (object.kind?.endsWith('List') === true && Array.isArray(object.items)) {
    for (const [index, item] of object.items.entries()) collect(item, `${place}, item ${index + 1}`, into);
    return;
  }
  const name = (object.metadata as { name?: unknown } | undefined | null)?.name;
  if (typeof name !== 'string' || name === '')
    throw invalid(`${place}: the ${object.kind} has no metadata.name (numbers and yes/no must be quoted)`);
  into.push(object as KubeObject);
}

/** What others lean on comes first. Kinds that are not named come last: they may need everything else. */
const ORDER: readonly (readonly string[])[] = [
  ['Namespace'],
  ['CustomResourceDefinition'],
  ['ServiceAccount'],
  ['Role', 'ClusterRole', 'RoleBinding', 'ClusterRoleBinding'],
  ['ConfigMap', 'Secret'],
  ['Service'],
  // Before the pods they guard: a workload must not run a moment without its policy.
  ['AuthorizationPolicy', 'PeerAuthentication'],
  ['Pod', 'ReplicaSet', 'Deployment', 'StatefulSet', 'DaemonSet', 'Job', 'CronJob'],
];

const rankOf = (object: KubeObject): number => {
  const rank = ORDER.findIndex((kinds) => kinds.includes(object.kind));
  return rank < 0 ? ORDER.length : rank;
};

/** The same objects in the order in which they are applied; equal ranks keep their order. */
export const inApplyOrder = (objects: readonly KubeObject[]): KubeObject[] =>
  [...objects].sort((a, b) => rankOf(a) - rankOf(b));

/**
 * Makes or updates every object, one after the other; the first failure ends it and names the object.
 * Namespaced objects without a namespace go to `default`.
 */
export async function applyManifests(
  client: KubeClient,
  objects: readonly KubeObject[],
  fieldManager: string,
  onApplied: (object: KubeObject) => void = () => {},
): Promise<void> {
  const findResource = createResourceFinder(client);
  for (const object of inApplyOrder(objects)) {
    const label = `${object.kind} ${object.metadata.name}`;
    const resource = await findResource(object);
    if (resource === undefined)
      throw invalid(
        `${label}: the API server knows no ${object.kind} in ${object.apiVersion}; apply its CustomResourceDefinition first`,
      );
    try {
      const applied = await applyOne(client, resource, placed(object, resource), fieldManager);
      if (resource.kind === CUSTOM_RESOURCE_DEFINITIONS.kind) await waitServed(client, object);
      onApplied(applied);
    } catch (error) {
      const status = apiStatusOf(error);
      if (status === undefined || !(error instanceof MeshError)) throw error;
      throw new MeshError('API_STATUS', `${label}: ${error.message}`, {
        cause: error,
        details: error.details,
      });
    }
  }
}

function placed(object: KubeObject, resource: Resource): KubeObject {
  if (!resource.namespaced || object.metadata.namespace !== undefined) return object;
  return { ...object, metadata: { ...object.metadata, namespace: DEFAULT_NAMESPACE } };
}

async function applyOne(
  client: KubeClient,
  resource: Resource,
  object: KubeObject,
  fieldManager: string,
): Promise<KubeObject> {
  const { name, namespace } = object.metadata;
  const options = { fieldManager, ...(namespace === undefined ? {} : { namespace }) };
  try {
    return await client.patch(resource, name, 'apply', object, options);
  } catch (error) {
    const status = apiStatusOf(error)?.status;
    if (status !== 405 && status !== 415 && status !== 501) throw error;
  }
  // A server without server-side apply.
  try {
    await client.get(resource, name, namespace);
  } catch (error) {
    if (!isNotFound(error)) throw error;
    try {
      return await client.create(resource, object, namespace);
    } catch (raced) {
      if (!isConflict(raced)) throw raced;
    }
  }
  return client.patch(resource, name, 'merge', object, options);
}

/** Objects of a new kind are refused until the server serves it. */
async function waitServed(client: KubeClient, definition: KubeObject): Promise<void> {
  const { spec } = definition as KubeObject & {
    spec?: { group?: string; names?: { plural?: string }; versions?: { name: string; served?: boolean }[] };
  };
  const version = spec?.versions?.find(({ served }) => served !== false)?.name;
  const limitAt = performance.now() + CRD_SERVED_LIMIT_MS;
  for (;;) {
    const served = await discoverGroupVersion(client, `${spec?.group}/${version}`);
    if (served.some(({ plural }) => plural === spec?.names?.plural)) return;
    if (performance.now() > limitAt)
      throw new MeshError(
        'API_UNREACHABLE',
        `the API server does not serve ${definition.metadata.name} ${CRD_SERVED_LIMIT_MS / 1000} s after its definition`,
      );
    await sleep(CRD_POLL_MS);
  }
}
