// What an earlier installation left in the cluster, and who still uses it.

import type { KubeClient } from '#k8s/client.ts';
import { knownResource } from '#k8s/discovery.ts';
import { CUSTOM_RESOURCE_DEFINITIONS } from '#k8s/mesh-objects.ts';
import {
  CONFIG_MAPS,
  DAEMON_SETS,
  DEPLOYMENTS,
  type KubeObject,
  NAMESPACES,
  PODS,
  type Resource,
  SERVICE_ACCOUNTS,
  SERVICES,
} from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { SYSTEM_NAMESPACE } from '../cluster-options.ts';
import { MANAGED_BY, MANAGED_SELECTOR } from './render.ts';

const rbac = (kind: string): Resource => knownResource('rbac.authorization.k8s.io/v1', kind) as Resource;

/** Every kind that install makes, in the order of removal: what runs goes before what it leans on. */
export const INSTALLED_KINDS: readonly Resource[] = [
  DAEMON_SETS,
  DEPLOYMENTS,
  SERVICES,
  CONFIG_MAPS,
  rbac('ClusterRoleBinding'),
  rbac('ClusterRole'),
  rbac('RoleBinding'),
  rbac('Role'),
  SERVICE_ACCOUNTS,
  CUSTOM_RESOURCE_DEFINITIONS,
  NAMESPACES,
];

export interface Installed {
  readonly resource: Resource;
  readonly object: KubeObject;
}

/** Everything that carries install's label, in the order of removal. */
export async function findInstalled(client: KubeClient): Promise<Installed[]> {
  const lists = await Promise.all(
    INSTALLED_KINDS.map(async (resource) => {
      const { items } = await client.list(resource, { labelSelector: MANAGED_SELECTOR });
      return items.map((object) => ({ resource, object }));
    }),
  );
  return lists.flat();
}

export const isOurs = (object: KubeObject): boolean =>
  Object.entries(MANAGED_BY).every(([key, value]) => object.metadata.labels?.[key] === value);

export const labelOf = ({ kind, metadata: { name, namespace } }: KubeObject): string =>
  `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;

/** A control plane that somebody else installed: two in one cluster would fight over every pod. */
export async function findForeignControlPlane(client: KubeClient): Promise<string | undefined> {
  for (const [resource, name] of [
    [DEPLOYMENTS, 'istiod'],
    [DAEMON_SETS, 'ztunnel'],
    [DAEMON_SETS, 'istio-cni-node'],
  ] as const) {
    try {
      const found: KubeObject = await client.get(resource as Resource, name, SYSTEM_NAMESPACE);
      if (!isOurs(found)) return labelOf(found);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
  return undefined;
}

export const MODE_LABEL = 'istio.io/dataplane-mode';

export interface Enrolled {
  readonly namespaces: readonly string[];
  /** Pods enrolled by their own label, as NAMESPACE/NAME. */
  readonly pods: readonly string[];
}

/** Whom the mesh carries by label. */
export async function findEnrolled(client: KubeClient): Promise<Enrolled> {
  const labelSelector = `${MODE_LABEL}=ambient`;
  const [namespaces, pods] = await Promise.all([
    client.list(NAMESPACES, { labelSelector }),
    client.list(PODS, { labelSelector }),
  ]);
  return {
    namespaces: namespaces.items.map(({ metadata }) => metadata.name),
    pods: pods.items.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`),
  };
}

export function describeEnrolled({ namespaces, pods }: Enrolled): string | undefined {
  const parts = [
    ...(namespaces.length === 0 ? [] : [`namespace ${namespaces.join(', ')}`]),
    ...(pods.length === 0 ? [] : [`pod ${pods.join(', ')}`]),
  ];
  return parts.length === 0 ? undefined : parts.join(' and ');
}
