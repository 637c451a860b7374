// Puts the default roles and bindings into the store at start, and what somebody took out of them back in.

import { CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, type PolicyRule } from '#k8s/rbac.ts';
import type { WriteOptions } from '../admit.ts';
import { equal, type JsonObject } from '../object.ts';
import { createObject, type ObjectsDeps, updateObject } from '../objects.ts';
import { defaultBindings, defaultRoles } from './default-roles.ts';
import { readRules } from './grants.ts';
import { missingRules } from './rules.ts';

const AUTO_UPDATE = 'rbac.authorization.kubernetes.io/autoupdate';

/** An object whose annotation says `autoupdate: "false"` is its owner's own business. */
export function ensureDefaultRbac(deps: ObjectsDeps, options: WriteOptions): void {
  for (const role of defaultRoles())
    ensure(deps, options, CLUSTER_ROLES.plural, role as unknown as JsonObject, (current) => {
      const held = readRules(current.rules);
      const lacking = (role.rules ?? []).filter((rule: PolicyRule) => missingRules(held, [rule]).length > 0);
      return lacking.length === 0 ? current : { ...current, rules: [...held, ...lacking] };
    });
  for (const binding of defaultBindings())
    ensure(deps, options, CLUSTER_ROLE_BINDINGS.plural, binding as unknown as JsonObject, (current) => {
      const held = Array.isArray(current.subjects) ? (current.subjects as unknown[]) : [];
      const lacking = (binding.subjects ?? []).filter(
        (subject) => !held.some((each) => equal(each, subject)),
      );
      return lacking.length === 0 ? current : { ...current, subjects: [...held, ...lacking] };
    });
}

function ensure(
  deps: ObjectsDeps,
  options: WriteOptions,
  plural: string,
  object: JsonObject,
  complete: (current: JsonObject) => JsonObject,
): void {
  const kind = deps.registry.find(CLUSTER_ROLES.group, 'v1', plural)!;
  const { name } = object.metadata as { name: string };
  const stored = deps.store.get(kind.resource, undefined, name);
  if (stored === undefined) createObject(deps, kind, undefined, object, options);
  else if (
    stored.object.metadata.annotations?.[AUTO_UPDATE] !== 'false' &&
    complete(stored.object) !== stored.object
  )
    updateObject(deps, kind, stored, complete, 'object', options);
}
