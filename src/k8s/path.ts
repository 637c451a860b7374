// URL paths of the Kubernetes API.

import type { KubeObject, Resource } from './objects.ts';

export const groupVersionOf = (resource: Pick<Resource, 'group' | 'version'>): string =>
  resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;

/** `/api/v1` or `/apis/GROUP/VERSION`. */
export const groupVersionPath = (resource: Pick<Resource, 'group' | 'version'>): string =>
  resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;

/** The collection: of one namespace, or of all when none is given (or the kind has none). */
export function collectionPath<T extends KubeObject>(resource: Resource<T>, namespace?: string): string {
  const base = groupVersionPath(resource);
  if (!resource.namespaced || namespace === undefined || namespace === '')
    return `${base}/${resource.plural}`;
  return `${base}/namespaces/${encodeURIComponent(namespace)}/${resource.plural}`;
}

/** One object, or one of its subresources. */
export function objectPath<T extends KubeObject>(
  resource: Resource<T>,
  name: string,
  namespace?: string,
  subresource?: string,
): string {
  if (name === '') throw new TypeError(`a ${resource.kind} without a name has no path`);
  if (resource.namespaced && (namespace === undefined || namespace === ''))
    throw new TypeError(`${resource.kind} ${name} has no namespace`);
  const path = `${collectionPath(resource, namespace)}/${encodeURIComponent(name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}
