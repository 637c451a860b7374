// What authorization must see of a body: who writes roles and bindings must not gain by it, and a kubelet may make its own
// node and lease only. Runs after validation, before anything is stored.

import { type PolicyRule, RBAC_GROUP } from '#k8s/rbac.ts';
import type { Kind } from '../kind.ts';
import { type ApiObject, at, equal } from '../object.ts';
import { notFound } from '../status.ts';
import type { User } from '../user-info.ts';
import type { ResourceAccess } from './access.ts';
import { type AccessControl, isMaster } from './access-control.ts';
import { readRules } from './grants.ts';
import { nodeOf } from './node-access.ts';
import { describeRules, missingRules, quotedList } from './rules.ts';

export interface GuardedWrite {
  readonly kind: Kind;
  readonly object: ApiObject;
  readonly old: ApiObject | undefined;
  readonly user: User;
}

const EVERYTHING: readonly PolicyRule[] = [
  { verbs: ['*'], apiGroups: ['*'], resources: ['*'] },
  { verbs: ['*'], nonResourceURLs: ['*'] },
];

/** Throws 403 for a write that would give its author more than he has. */
export function guardWrite(control: AccessControl, write: GuardedWrite): void {
  const { kind, user } = write;
  if (isMaster(user)) return;
  if (kind.group === RBAC_GROUP) {
    if (kind.plural === 'roles' || kind.plural === 'clusterroles') guardRole(control, write);
    else guardBinding(control, write);
  } else guardNode(control, write);
}

function accessTo({ kind, object, old }: GuardedWrite, verb?: string): ResourceAccess {
  return {
    kind: 'resource',
    verb: verb ?? (old === undefined ? 'create' : 'update'),
    group: kind.group,
    resource: kind.plural,
    subresource: '',
    name: object.metadata.name,
    namespace: object.metadata.namespace ?? '',
    fields: new Map(),
  };
}

function guardRole(control: AccessControl, write: GuardedWrite): void {
  const { object, old, user } = write;
  const unchanged =
    old !== undefined &&
    equal(object.rules ?? [], old.rules ?? []) &&
    equal(object.aggregationRule, old.aggregationRule);
  if (unchanged || control.decide(user, accessTo(write, 'escalate')).allowed) return;
  // Whoever writes a selector of roles cannot know what it will hold.
  const aggregates = object.aggregationRule !== undefined || old?.aggregationRule !== undefined;
  confirmHeld(control, write, aggregates ? EVERYTHING : readRules(object.rules));
}

function guardBinding(control: AccessControl, write: GuardedWrite): void {
  const { object, old, user } = write;
  const unchanged =
    old !== undefined &&
    equal(object.subjects ?? [], old.subjects ?? []) &&
    equal(object.roleRef, old.roleRef);
  if (unchanged) return;
  const ofCluster = at(object.roleRef, 'kind') === 'ClusterRole';
  const name = String(at(object.roleRef, 'name') ?? '');
  const resource = ofCluster ? 'clusterroles' : 'roles';
  if (control.decide(user, { ...accessTo(write, 'bind'), resource, name }).allowed) return;
  const rules = control.grants.rulesOf(object.roleRef, object.metadata.namespace);
  if (rules === undefined) throw notFound({ group: RBAC_GROUP, plural: resource, kind: 'Role' }, name);
  confirmHeld(control, write, rules);
}

function confirmHeld(control: AccessControl, write: GuardedWrite, rules: readonly PolicyRule[]): void {
  const { user, object } = write;
  const missing = missingRules(control.rulesFor(user, object.metadata.namespace ?? ''), rules);
  if (missing.length === 0) return;
  throw control.deny(
    user,
    accessTo(write),
    `user ${JSON.stringify(user.name)} (groups=${quotedList(user.groups)}) is attempting to grant RBAC permissions not currently held:\n${describeRules(missing).join('\n')}`,
  );
}

function guardNode(control: AccessControl, write: GuardedWrite): void {
  const node = nodeOf(write.user);
  const { kind, object, old } = write;
  if (node === undefined || old !== undefined || object.metadata.name === node) return;
  if (kind.plural === 'nodes' || kind.plural === 'leases')
    throw control.deny(
      write.user,
      accessTo(write),
      `node ${JSON.stringify(node)} is not allowed to make ${kind.plural} of another name`,
    );
}
