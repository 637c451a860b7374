// Which kinds there are and where they live: a table of the ones we know, and the API server's own word for the rest.

import type { KubeClient } from './client.ts';
import { CUSTOM_RESOURCE_DEFINITIONS } from './mesh-objects.ts';
import {
  AUTHORIZATION_POLICIES,
  CONFIG_MAPS,
  DAEMON_SETS,
  DEPLOYMENTS,
  ENDPOINT_SLICES,
  EVENTS,
  type KubeObject,
  LEASES,
  NAMESPACES,
  NODES,
  PEER_AUTHENTICATIONS,
  PODS,
  REPLICA_SETS,
  type Resource,
  SECRETS,
  SERVICE_ACCOUNTS,
  SERVICES,
} from './objects.ts';
import { groupVersionOf, groupVersionPath } from './path.ts';
import { CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES } from './rbac.ts';
import { isNotFound } from './status.ts';

const KNOWN: ReadonlyMap<string, Resource> = new Map(
  [
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    SERVICE_ACCOUNTS,
    CONFIG_MAPS,
    SECRETS,
    EVENTS,
    DEPLOYMENTS,
    REPLICA_SETS,
    DAEMON_SETS,
    ENDPOINT_SLICES,
    LEASES,
    AUTHORIZATION_POLICIES,
    PEER_AUTHENTICATIONS,
    CUSTOM_RESOURCE_DEFINITIONS,
    ROLES,
    ROLE_BINDINGS,
    CLUSTER_ROLES,
    CLUSTER_ROLE_BINDINGS,
  ].map((resource: Resource) => [typeKey(groupVersionOf(resource), resource.kind), resource]),
);

function typeKey(apiVersion: string, kind: string): string {
  return `${apiVersion}/${kind}`;
}

export const knownResource = (apiVersion: string, kind: string): Resource | undefined =>
  KNOWN.get(typeKey(apiVersion, kind));

interface ApiResourceList {
  readonly resources?: readonly {
    readonly name: string;
    readonly kind: string;
    readonly namespaced: boolean;
    readonly verbs?: readonly string[];
  }[];
}

export interface DiscoveredResource extends Resource {
  readonly verbs: readonly string[];
}

/** `networking.k8s.io/v1` → group and version; `v1` is the empty group. */
export function splitApiVersion(apiVersion: string): { group: string; version: string } {
  const slash = apiVersion.indexOf('/');
  return slash < 0
    ? { group: '', version: apiVersion }
    : { group: apiVersion.slice(0, slash), version: apiVersion.slice(slash + 1) };
}

/** The kinds of one group and version, without subresources; none when the server does not serve it. */
export async function discoverGroupVersion(
  client: KubeClient,
  apiVersion: string,
): Promise<DiscoveredResource[]> {
  const { group, version } = splitApiVersion(apiVersion);
  let answer: ApiResourceList;
  try {
    answer = await client.request<ApiResourceList>('GET', groupVersionPath({ group, version }));
  } catch (error) {
    if (isNotFound(error)) return [];
    throw error;
  }
  return (answer.resources ?? [])
    .filter(({ name }) => !name.includes('/'))
    .map(({ name, kind, namespaced, verbs = [] }) => ({
      group,
      version,
      plural: name,
      kind,
      namespaced,
      verbs,
    }));
}

/** Every kind of the server, each in its group's preferred version. */
export async function discoverAll(client: KubeClient): Promise<DiscoveredResource[]> {
  const groups = await client.request<{
    groups?: { versions: { groupVersion: string }[]; preferredVersion?: { groupVersion: string } }[];
  }>('GET', '/apis');
  const apiVersions = ['v1'];
  for (const { versions, preferredVersion } of groups.groups ?? []) {
    const apiVersion = preferredVersion?.groupVersion ?? versions[0]?.groupVersion;
    if (apiVersion !== undefined) apiVersions.push(apiVersion);
  }
  return (
    await Promise.all(apiVersions.map((apiVersion) => discoverGroupVersion(client, apiVersion)))
  ).flat();
}

export type FindResource = (object: Pick<KubeObject, 'apiVersion' | 'kind'>) => Promise<Resource | undefined>;

/** The table first, then the server; what the server knew once is not asked again. */
export function createResourceFinder(client: KubeClient): FindResource {
  const found = new Map<string, Resource>(KNOWN);
  return async ({ apiVersion, kind }) => {
    const key = typeKey(apiVersion, kind);
    if (!found.has(key))
      for (const resource of await discoverGroupVersion(client, apiVersion))
        found.set(typeKey(apiVersion, resource.kind), resource);
    return found.get(key);
  };
}
