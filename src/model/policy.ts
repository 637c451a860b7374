// An L4 authorization policy as ztunnel evaluates it (ztunnel.md §8, `istio.security.Authorization`).

import type { Cidr } from '#net/cidr.ts';

export type StringMatch =
  | { readonly kind: 'exact' | 'prefix' | 'suffix'; readonly text: string }
  | { readonly kind: 'presence' };

export interface ServiceAccountMatch {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** Fields are ANDed; the values of one field are ORed; `not…` fields negate the OR. All empty never matches. */
export interface PolicyMatch {
  readonly namespaces: readonly StringMatch[];
  readonly notNamespaces: readonly StringMatch[];
  readonly serviceAccounts: readonly ServiceAccountMatch[];
  readonly notServiceAccounts: readonly ServiceAccountMatch[];
  readonly principals: readonly StringMatch[];
  readonly notPrincipals: readonly StringMatch[];
  readonly sourceIps: readonly Cidr[];
  readonly notSourceIps: readonly Cidr[];
  readonly destinationIps: readonly Cidr[];
  readonly notDestinationIps: readonly Cidr[];
  readonly destinationPorts: readonly number[];
  readonly notDestinationPorts: readonly number[];
}

/** No populated field: never matches anything. */
export const EMPTY_MATCH: PolicyMatch = Object.freeze({
  namespaces: [],
  notNamespaces: [],
  serviceAccounts: [],
  notServiceAccounts: [],
  principals: [],
  notPrincipals: [],
  sourceIps: [],
  notSourceIps: [],
  destinationIps: [],
  notDestinationIps: [],
  destinationPorts: [],
  notDestinationPorts: [],
});

/** A match that looks at these fields only. */
export function matchOf(fields: Partial<PolicyMatch> = {}): PolicyMatch {
  return { ...EMPTY_MATCH, ...fields };
}

/** Matches of one clause are ORed; clauses of one rule are ANDed; rules of one policy are ORed. */
export interface PolicyRule {
  readonly clauses: readonly (readonly PolicyMatch[])[];
}

export interface Policy {
  readonly name: string;
  readonly namespace: string;
  readonly scope: 'Global' | 'Namespace' | 'WorkloadSelector';
  readonly action: 'Allow' | 'Deny';
  readonly rules: readonly PolicyRule[];
  readonly dryRun: boolean;
}

/** `namespace/name`, the xDS resource name. */
export type PolicyKey = string & { readonly __brand: 'PolicyKey' };

export function policyKey(policy: Pick<Policy, 'namespace' | 'name'>): PolicyKey {
  return `${policy.namespace}/${policy.name}` as PolicyKey;
}
