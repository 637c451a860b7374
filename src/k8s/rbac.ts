// Roles and bindings as Kubernetes' rbac.authorization.k8s.io/v1 has them, and how aggregated roles are put together.

import type { KubeObject, LabelSelector, Resource } from './objects.ts';
import { matchesSelector } from './selectors.ts';

export const RBAC_GROUP = 'rbac.authorization.k8s.io';

/** What may be done with what. Either resources or URLs, never both. */
export interface PolicyRule {
  verbs: string[];
  apiGroups?: string[];
  /** `pods`, `pods/log`, `*`, or any resource's part: `*` + `/scale`. */
  resources?: string[];
  /** Absent or empty: every object. */
  resourceNames?: string[];
  /** `/healthz`, or with a `*` at the end. */
  nonResourceURLs?: string[];
}

export interface Role extends KubeObject {
  rules?: PolicyRule[] | null;
}

export interface ClusterRole extends Role {
  /** With it the rules are not written by hand: they are those of every role that a selector matches. */
  aggregationRule?: { clusterRoleSelectors?: LabelSelector[] };
}

export interface RbacSubject {
  kind: string;
  name: string;
  namespace?: string;
  apiGroup?: string;
}

export interface RoleRef {
  apiGroup?: string;
  kind: string;
  name: string;
}

export interface RoleBinding extends KubeObject {
  subjects?: RbacSubject[] | null;
  roleRef: RoleRef;
}

const rbac = <T extends KubeObject>(plural: string, kind: string, namespaced: boolean): Resource<T> => ({
  group: RBAC_GROUP,
  version: 'v1',
  plural,
  kind,
  namespaced,
});

export const ROLES = rbac<Role>('roles', 'Role', true);
export const ROLE_BINDINGS = rbac<RoleBinding>('rolebindings', 'RoleBinding', true);
export const CLUSTER_ROLES = rbac<ClusterRole>('clusterroles', 'ClusterRole', false);
export const CLUSTER_ROLE_BINDINGS = rbac<RoleBinding>('clusterrolebindings', 'ClusterRoleBinding', false);

/**
 * The rules an aggregated role must have: those of the roles its selectors match, in the order of their names, each once.
 * Undefined for a role that is written by hand.
 */
export function aggregatedRules(role: ClusterRole, all: Iterable<ClusterRole>): PolicyRule[] | undefined {
  const selectors = role.aggregationRule?.clusterRoleSelectors;
  if (selectors === undefined) return undefined;
  const chosen = [...all]
    .filter(
      ({ metadata }) =>
        metadata.name !== role.metadata.name &&
        selectors.some((selector) => matchesSelector(selector, metadata.labels)),
    )
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const rules = new Map<string, PolicyRule>();
  for (const { rules: own } of chosen)
    for (const rule of own ?? []) {
      const key = JSON.stringify(Object.entries(rule).sort(([a], [b]) => (a < b ? -1 : 1)));
      if (!rules.has(key)) rules.set(key, rule);
    }
  return [...rules.values()];
}
