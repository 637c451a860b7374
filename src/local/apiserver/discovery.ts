// What is served, told in both forms: the aggregated document of current clients and the lists of older ones.

import { createHash } from 'node:crypto';
import type { Kind } from './kind.ts';
import { VIRTUAL_KINDS } from './kinds.ts';
import type { JsonObject } from './object.ts';
import type { Registry } from './registry.ts';

/** One resource or subresource of a group and version, as discovery lists it. */
interface Listed {
  readonly name: string;
  readonly singular: string;
  readonly namespaced: boolean;
  readonly kind: string;
  readonly group: string;
  readonly version: string;
  readonly verbs: readonly string[];
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly subresources: readonly {
    readonly name: string;
    readonly group: string;
    readonly version: string;
    readonly kind: string;
    readonly verbs: readonly string[];
  }[];
}

const SUBRESOURCE_VERBS = ['get', 'patch', 'update'];
const EXTRA_GROUPS: Readonly<Record<string, { readonly group: string; readonly version: string }>> = {
  TokenRequest: { group: 'authentication.k8s.io', version: 'v1' },
  Eviction: { group: 'policy', version: 'v1' },
};

function subresourcesOf(kind: Kind): Listed['subresources'] {
  const { group, version } = kind;
  return [
    ...kind.extra.map((extra) => ({ group, version, ...EXTRA_GROUPS[extra.kind], ...extra })),
    ...(kind.status ? [{ name: 'status', group, version, kind: kind.kind, verbs: SUBRESOURCE_VERBS }] : []),
    ...(kind.scale === undefined
      ? []
      : [{ name: 'scale', group: 'autoscaling', version: 'v1', kind: 'Scale', verbs: SUBRESOURCE_VERBS }]),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function listed(registry: Registry): Listed[] {
  return [
    ...registry.kinds.map((kind) => ({ ...kind, name: kind.plural, subresources: subresourcesOf(kind) })),
    ...VIRTUAL_KINDS.map((kind) => ({
      ...kind,
      name: kind.plural,
      singular: kind.kind.toLowerCase(),
      verbs: ['create'],
      shortNames: [],
      categories: [],
      subresources: [],
    })),
  ];
}

/** Group → version → resources; versions in the order of preference (v1 before v1beta1). */
function grouped(registry: Registry): Map<string, Map<string, Listed[]>> {
  const groups = new Map<string, Map<string, Listed[]>>();
  for (const each of listed(registry)) {
    const versions = groups.get(each.group) ?? new Map<string, Listed[]>();
    groups.set(each.group, versions);
    const resources = versions.get(each.version);
    if (resources === undefined) versions.set(each.version, [each]);
    else resources.push(each);
  }
  for (const [group, versions] of groups)
    groups.set(group, new Map([...versions].sort(([a], [b]) => compareVersions(a, b))));
  return groups;
}

/** Stable before beta before alpha, then the higher number first. */
export function compareVersions(a: string, b: string): number {
  const rank = (version: string): [number, number, number] => {
    const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version);
    if (match === null) return [3, 0, 0];
    return [
      match[2] === undefined ? 0 : match[2] === 'beta' ? 1 : 2,
      -Number(match[1]),
      -Number(match[3] ?? 0),
    ];
  };
  const left = rank(a);
  const right = rank(b);
  for (let index = 0; index < 3; index++)
    if (left[index] !== right[index]) return left[index]! - right[index]!;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** `core` is the part below /api, the other groups stand below /apis. */
export function aggregatedDiscovery(registry: Registry, part: 'core' | 'groups'): JsonObject {
  const items = [...grouped(registry)]
    .filter(([group]) => (group === '') === (part === 'core'))
    .map(([group, versions]) => ({
      metadata: { name: group, creationTimestamp: null },
      versions: [...versions].map(([version, resources]) => ({
        version,
        freshness: 'Current',
        resources: resources.map(aggregatedResource),
      })),
    }));
  return { kind: 'APIGroupDiscoveryList', apiVersion: 'apidiscovery.k8s.io/v2', metadata: {}, items };
}

function aggregatedResource(resource: Listed): JsonObject {
  const { group, version, kind } = resource;
  return {
    resource: resource.name,
    responseKind: { group, version, kind },
    scope: resource.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: resource.singular,
    verbs: resource.verbs,
    ...(resource.shortNames.length > 0 ? { shortNames: resource.shortNames } : {}),
    ...(resource.categories.length > 0 ? { categories: resource.categories } : {}),
    ...(resource.subresources.length === 0
      ? {}
      : {
          subresources: resource.subresources.map((sub) => ({
            subresource: sub.name,
            responseKind: { group: sub.group, version: sub.version, kind: sub.kind },
            verbs: sub.verbs,
          })),
        }),
  };
}

export function coreVersions(serverAddress: string): JsonObject {
  return {
    kind: 'APIVersions',
    versions: ['v1'],
    serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress }],
  };
}

export function groupList(registry: Registry): JsonObject {
  const groups = [...grouped(registry).keys()].filter((group) => group !== '');
  return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups.map((group) => groupOf(registry, group)!) };
}

function groupOf(registry: Registry, group: string): JsonObject | undefined {
  const versions = grouped(registry).get(group);
  if (versions === undefined || group === '') return undefined;
  const all = [...versions.keys()].map((version) => ({ groupVersion: `${group}/${version}`, version }));
  return { name: group, versions: all, preferredVersion: all[0] };
}

export function groupDocument(registry: Registry, group: string): JsonObject | undefined {
  const found = groupOf(registry, group);
  return found === undefined ? undefined : { kind: 'APIGroup', apiVersion: 'v1', ...found };
}

export function resourceList(registry: Registry, group: string, version: string): JsonObject | undefined {
  const resources = grouped(registry).get(group)?.get(version);
  if (resources === undefined) return undefined;
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? version : `${group}/${version}`,
    resources: resources.flatMap((resource) => [
      {
        name: resource.name,
        singularName: resource.singular,
        namespaced: resource.namespaced,
        kind: resource.kind,
        verbs: resource.verbs,
        ...(resource.shortNames.length > 0 ? { shortNames: resource.shortNames } : {}),
        ...(resource.categories.length > 0 ? { categories: resource.categories } : {}),
      },
      ...resource.subresources.map((sub) => ({
        name: `${resource.name}/${sub.name}`,
        singularName: '',
        namespaced: resource.namespaced,
        kind: sub.kind,
        ...(sub.group === group && sub.version === version ? {} : { group: sub.group, version: sub.version }),
        verbs: sub.verbs,
      })),
    ]),
  };
}

export const etagOf = (text: string): string =>
  `"${createHash('sha256').update(text).digest('hex').slice(0, 32)}"`;

/** A version like the Kubernetes release whose API this server follows. */
export function versionDocument(): JsonObject {
  return {
    major: '1',
    minor: '37',
    gitVersion: 'v1.37.0+culvert',
    gitCommit: '',
    gitTreeState: 'clean',
    buildDate: '1970-01-01T00:00:00Z',
    goVersion: 'none',
    compiler: `node ${process.versions.node}`,
    platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
  };
}
