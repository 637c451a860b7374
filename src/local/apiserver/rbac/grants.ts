// Which rules hold for whom: an index from subjects to bindings, kept in step with the store, and per user the rules that
// follow from them. A decision reads a list that is there already; a change of any role or binding empties these lists.

import { type PolicyRule, RBAC_GROUP, type RbacSubject } from '#k8s/rbac.ts';
import { type ApiObject, at, isObject } from '../object.ts';
import { type Change, type ResourceKey, resourceKey, type Store } from '../store.ts';
import type { User } from '../user-info.ts';

export const ROLES = resourceKey(RBAC_GROUP, 'roles');
export const CLUSTER_ROLES = resourceKey(RBAC_GROUP, 'clusterroles');
export const ROLE_BINDINGS = resourceKey(RBAC_GROUP, 'rolebindings');
export const CLUSTER_ROLE_BINDINGS = resourceKey(RBAC_GROUP, 'clusterrolebindings');

/** One rule, and the words in which a decision names where it comes from. */
export interface Grant {
  readonly rule: PolicyRule;
  readonly reason: string;
}

interface UserGrants {
  readonly cluster: readonly Grant[];
  readonly namespaces: ReadonlyMap<string, readonly Grant[]>;
}

/** Users whose rules are kept; a service account's token makes one, an attacker's names none. */
const MAX_USERS = 2_000;
const NONE: readonly Grant[] = [];

export class Grants {
  readonly #store: Store;
  /** Subject → bindings; every binding once per subject. */
  readonly #bindings = new Map<string, Map<string, ApiObject>>();
  readonly #users = new Map<string, UserGrants>();

  constructor(store: Store) {
    this.#store = store;
    for (const resource of [ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS]) {
      for (const { object } of store.list(resource)) this.#index(resource, object, true);
      store.subscribe(resource, (change) => this.#rebind(resource, change));
    }
    for (const resource of [ROLES, CLUSTER_ROLES]) store.subscribe(resource, () => this.#users.clear());
  }

  /** Rules of the whole cluster first, then those of the namespace; the empty namespace is the cluster itself. */
  of(user: User, namespace: string): readonly (readonly Grant[])[] {
    const { cluster, namespaces } = this.#grantsOf(user);
    return [cluster, namespace === '' ? NONE : (namespaces.get(namespace) ?? NONE)];
  }

  /** The rules of the role a binding refers to; undefined when there is no such role. */
  rulesOf(roleRef: unknown, namespace: string | undefined): readonly PolicyRule[] | undefined {
    const name = String(at(roleRef, 'name') ?? '');
    const stored =
      at(roleRef, 'kind') === 'ClusterRole'
        ? this.#store.get(CLUSTER_ROLES, undefined, name)
        : this.#store.get(ROLES, namespace, name);
    return stored === undefined ? undefined : readRules(stored.object.rules);
  }

  #grantsOf(user: User): UserGrants {
    const key = JSON.stringify([user.name, ...user.groups]);
    const known = this.#users.get(key);
    if (known !== undefined) return known;
    const cluster: Grant[] = [];
    const namespaces = new Map<string, Grant[]>();
    for (const [subject, words] of [
      [userKey(user.name), subjectWords(user.name)] as const,
      ...user.groups.map((group) => [groupKey(group), `Group ${JSON.stringify(group)}`] as const),
    ])
      for (const binding of this.#bindings.get(subject)?.values() ?? []) {
        const { namespace } = binding.metadata;
        const found = this.#grantsBy(binding, words);
        if (namespace === undefined) cluster.push(...found);
        else {
          const own = namespaces.get(namespace) ?? [];
          namespaces.set(namespace, own);
          own.push(...found);
        }
      }
    if (this.#users.size >= MAX_USERS) this.#users.clear();
    const grants = { cluster, namespaces };
    this.#users.set(key, grants);
    return grants;
  }

  #grantsBy(binding: ApiObject, subject: string): Grant[] {
    const { name, namespace } = binding.metadata;
    const where = namespace === undefined ? name : `${name}/${namespace}`;
    const reason = `RBAC: allowed by ${namespace === undefined ? 'ClusterRoleBinding' : 'RoleBinding'} ${JSON.stringify(where)} of ${String(at(binding.roleRef, 'kind'))} ${JSON.stringify(at(binding.roleRef, 'name'))} to ${subject}`;
    return (this.rulesOf(binding.roleRef, namespace) ?? []).map((rule) => ({ rule, reason }));
  }

  #rebind(resource: ResourceKey, { type, stored, previous }: Change): void {
    if (previous !== undefined) this.#index(resource, previous.object, false);
    if (type !== 'DELETED') this.#index(resource, stored.object, true);
    this.#users.clear();
  }

  #index(resource: ResourceKey, binding: ApiObject, add: boolean): void {
    const { name, namespace } = binding.metadata;
    const key = `${resource}/${namespace ?? ''}/${name}`;
    for (const subject of readSubjects(binding, namespace)) {
      const bindings = this.#bindings.get(subject) ?? new Map<string, ApiObject>();
      if (add) {
        bindings.set(key, binding);
        this.#bindings.set(subject, bindings);
      } else {
        bindings.delete(key);
        if (bindings.size === 0) this.#bindings.delete(subject);
      }
    }
  }
}

const userKey = (name: string): string => `user ${name}`;
const groupKey = (name: string): string => `group ${name}`;

export const serviceAccountName = (namespace: string, name: string): string =>
  `system:serviceaccount:${namespace}:${name}`;

function subjectWords(user: string): string {
  const [, , namespace, name, ...more] = user.split(':');
  return user.startsWith('system:serviceaccount:') && name !== undefined && more.length === 0
    ? `ServiceAccount ${JSON.stringify(`${name}/${namespace}`)}`
    : `User ${JSON.stringify(user)}`;
}

function readSubjects(binding: ApiObject, namespace: string | undefined): string[] {
  const subjects = Array.isArray(binding.subjects) ? binding.subjects.filter(isObject) : [];
  return subjects.flatMap((subject) => {
    const { kind, name, namespace: own } = subject as unknown as RbacSubject;
    if (typeof name !== 'string') return [];
    if (kind === 'User') return [userKey(name)];
    if (kind === 'Group') return [groupKey(name)];
    const where = own ?? namespace;
    return kind === 'ServiceAccount' && where !== undefined ? [userKey(serviceAccountName(where, name))] : [];
  });
}

const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((each) => typeof each === 'string');
const LISTS = ['apiGroups', 'resources', 'resourceNames', 'nonResourceURLs'] as const;

/** A rule that is not of the right form grants nothing: without its names it could grant too much. */
export function readRules(rules: unknown): PolicyRule[] {
  if (!Array.isArray(rules)) return [];
  return rules.filter(
    (rule: unknown): rule is PolicyRule =>
      isObject(rule) &&
      isStrings(rule.verbs) &&
      LISTS.every((name) => rule[name] === undefined || isStrings(rule[name])),
  );
}
