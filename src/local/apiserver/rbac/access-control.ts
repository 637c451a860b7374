// The decision: may this user do this? Roles and bindings say so, kubelets have their own rule, and the group
// system:masters (the administrator's kubeconfig) may do everything, so that nobody can lock himself out.

import type { PolicyRule } from '#k8s/rbac.ts';
import type { Logger } from '#telemetry/log.ts';
import { StatusError } from '../status.ts';
import type { Store } from '../store.ts';
import type { User } from '../user-info.ts';
import { type Access, refusalText } from './access.ts';
import { AccessLedger } from './access-ledger.ts';
import { Grants } from './grants.ts';
import { nodeMay, nodeOf } from './node-access.ts';
import { ruleAllows } from './rules.ts';

const MASTERS = 'system:masters';
const EVERYTHING: readonly PolicyRule[] = [
  { verbs: ['*'], apiGroups: ['*'], resources: ['*'] },
  { verbs: ['*'], nonResourceURLs: ['*'] },
];

export const isMaster = (user: User): boolean => user.groups.includes(MASTERS);

export interface Decision {
  readonly allowed: boolean;
  /** Which binding allows it, or why nothing does. */
  readonly reason: string;
}

/** A refusal of authorization, apart from all the other reasons for a 403. */
export class AccessDenied extends StatusError {}

export class AccessControl {
  readonly grants: Grants;
  readonly ledger = new AccessLedger();
  readonly #store: Store;
  readonly #log: Logger;

  constructor(deps: { readonly store: Store; readonly log: Logger }) {
    this.#store = deps.store;
    this.#log = deps.log;
    this.grants = new Grants(deps.store);
  }

  decide(user: User, access: Access): Decision {
    if (isMaster(user)) return { allowed: true, reason: `Group "${MASTERS}" may do everything` };
    const node = nodeOf(user);
    if (node !== undefined && nodeMay(this.#store, node, access))
      return { allowed: true, reason: `node ${JSON.stringify(node)} needs it` };
    const namespace = access.kind === 'path' ? '' : access.namespace;
    for (const grants of this.grants.of(user, namespace))
      for (const { rule, reason } of grants) if (ruleAllows(rule, access)) return { allowed: true, reason };
    return { allowed: false, reason: hintFor(user) };
  }

  /** Throws 403, which is written down, unless the decision is yes. */
  require(user: User, access: Access): void {
    const { allowed, reason } = this.decide(user, access);
    if (allowed) this.ledger.granted(user, access);
    else throw this.deny(user, access, `${refusalText(user.name, access)}: ${reason}`);
  }

  /** The refusal to throw, after it has been counted and logged. */
  deny(user: User, access: Access, why: string): AccessDenied {
    const times = this.ledger.denied(user, access);
    // Whoever asks again and again does not fill the log: the 1st, 2nd, 4th, 8th … refusal is written.
    if (times !== undefined && Number.isInteger(Math.log2(times)))
      this.#log.warn('access denied', { user: user.name, verb: access.verb, times, why });
    if (access.kind === 'path') return new AccessDenied(403, 'Forbidden', `forbidden: ${why}`, {});
    const { group, resource, name } = access;
    const thing = group === '' ? resource : `${resource}.${group}`;
    const named = name === '' ? thing : `${thing} ${JSON.stringify(name)}`;
    return new AccessDenied(403, 'Forbidden', `${named} is forbidden: ${why}`, {
      ...(name === '' ? {} : { name }),
      ...(group === '' ? {} : { group }),
      kind: resource,
    });
  }

  /** Every rule that holds for the user in the namespace; of kubelets those of their roles only. */
  rulesFor(user: User, namespace: string): readonly PolicyRule[] {
    if (isMaster(user)) return EVERYTHING;
    return this.grants
      .of(user, namespace)
      .flat()
      .map(({ rule }) => rule);
  }
}

function hintFor(user: User): string {
  if (user.groups.includes('system:unauthenticated'))
    return 'present a client certificate or a service account token';
  return nodeOf(user) === undefined
    ? 'no role bound to this user or its groups allows it'
    : 'a kubelet may use its own node, the pods on it, and what these refer to';
}
