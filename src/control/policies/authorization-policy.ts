// AuthorizationPolicy → L4 policy for the node proxies (control-plane.md §3.3, §3.4). Pure.
//
// The node proxy knows identities, addresses and ports, no HTTP. What a policy says beyond that is
//   * in an ALLOW policy: the whole rule is left out. Fewer rules allow less; with none left, everything is denied.
//   * in a DENY policy: only the HTTP part is left out. A match that asked for nothing else becomes empty and an empty
//     match never matches; a match that also named a port denies that port altogether.
// Exchanging the two would open the mesh.

import type {
  AuthorizationPolicy,
  AuthorizationPolicyOperation,
  AuthorizationPolicySource,
} from '#k8s/objects.ts';
import { matchOf, type Policy, type PolicyMatch, type PolicyRule } from '#model/policy.ts';
import { ANNOTATION, annotationsOf } from '../ambient/labels.ts';
import {
  principalMatches,
  type Readable,
  readCidrs,
  readPorts,
  serviceAccountMatch,
  stringMatch,
} from './match.ts';

export type Conversion =
  | {
      readonly kind: 'enforced';
      readonly policy: Policy;
      /** Attributes that node proxies cannot enforce, sorted; empty when all of it is enforced. */
      readonly unsupported: readonly string[];
      readonly explain: string;
    }
  | {
      readonly kind: 'not-sent';
      readonly reason: 'dry-run' | 'waypoint' | 'action';
      readonly explain: string;
    };

export interface ConversionOptions {
  readonly rootNamespace: string;
  /** Send dry-run policies: node proxies that do not know them would enforce them. */
  readonly dryRun: boolean;
  /** Ours and its aliases. */
  readonly trustDomains: readonly string[];
}

export function convertAuthorizationPolicy(
  object: AuthorizationPolicy,
  options: ConversionOptions,
): Conversion {
  const spec = object.spec ?? {};
  const namespace = object.metadata.namespace ?? '';
  const dryRun = annotationsOf(object)[ANNOTATION.dryRun] === 'true';
  if (dryRun && !options.dryRun)
    return notSent('dry-run', 'dry-run policies are not sent to node proxies; nothing is enforced');
  if (spec.targetRef !== undefined || (spec.targetRefs ?? []).length > 0)
    return notSent(
      'waypoint',
      'the policy is attached by targetRefs; waypoints enforce it, node proxies do not',
    );
  const action = spec.action ?? 'ALLOW';
  if (action !== 'ALLOW' && action !== 'DENY')
    return notSent('action', `action ${action} needs a waypoint; node proxies enforce ALLOW and DENY`);

  const unsupported = new Set<string>();
  const rules: PolicyRule[] = [];
  for (const rule of spec.rules ?? []) {
    const reader = new RuleReader(namespace, options.trustDomains);
    const converted = reader.read(rule);
    for (const attribute of reader.unsupported) unsupported.add(attribute);
    if (action === 'DENY' || reader.exact) rules.push(converted);
  }
  const sorted = [...unsupported].sort();
  return {
    kind: 'enforced',
    policy: {
      name: object.metadata.name,
      namespace,
      scope:
        spec.selector !== undefined
          ? 'WorkloadSelector'
          : namespace === options.rootNamespace
            ? 'Global'
            : 'Namespace',
      action: action === 'ALLOW' ? 'Allow' : 'Deny',
      rules,
      dryRun,
    },
    unsupported: sorted,
    explain: explain(action, sorted, rules),
  };
}

type RuleSource = NonNullable<NonNullable<AuthorizationPolicy['spec']>['rules']>[number];

/** Reads one entry of `rules[]` and remembers what it had to leave out. */
class RuleReader {
  readonly unsupported: string[] = [];
  /** False when something that narrows the rule was left out: an ALLOW must then not be sent. */
  exact = true;
  readonly #namespace: string;
  readonly #trustDomains: readonly string[];

  constructor(policyNamespace: string, trustDomains: readonly string[]) {
    this.#namespace = policyNamespace;
    this.#trustDomains = trustDomains;
  }

  /** Clauses in this order: operations, sources, then one per condition. An empty rule has none and matches all. */
  read(rule: RuleSource): PolicyRule {
    const clauses: (readonly PolicyMatch[])[] = [];
    const { to = [], from = [], when = [] } = rule;
    if (to.length > 0) clauses.push(to.map((entry) => this.#operation(entry.operation ?? {})));
    if (from.length > 0) clauses.push(from.map((entry) => this.#source(entry.source ?? {})));
    for (const condition of when)
      clauses.push([this.#condition(condition.key, condition.values ?? [], condition.notValues ?? [])]);
    return { clauses };
  }

  #operation(operation: AuthorizationPolicyOperation): PolicyMatch {
    this.#leaveOut(operation, ['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths']);
    return matchOf({
      destinationPorts: this.#positive('ports', readPorts(operation.ports ?? [])),
      notDestinationPorts: this.#negative('notPorts', readPorts(operation.notPorts ?? [])),
    });
  }

  #source(source: AuthorizationPolicySource): PolicyMatch {
    this.#leaveOut(source, [
      'requestPrincipals',
      'notRequestPrincipals',
      'remoteIpBlocks',
      'notRemoteIpBlocks',
      'trustDomains',
      'notTrustDomains',
    ]);
    const account = (text: string) => serviceAccountMatch(text, this.#namespace);
    return matchOf({
      principals: principalMatches(source.principals ?? [], this.#trustDomains),
      notPrincipals: principalMatches(source.notPrincipals ?? [], this.#trustDomains),
      namespaces: (source.namespaces ?? []).map(stringMatch),
      notNamespaces: (source.notNamespaces ?? []).map(stringMatch),
      serviceAccounts: (source.serviceAccounts ?? []).map(account),
      notServiceAccounts: (source.notServiceAccounts ?? []).map(account),
      sourceIps: this.#positive('ipBlocks', readCidrs(source.ipBlocks ?? [])),
      notSourceIps: this.#negative('notIpBlocks', readCidrs(source.notIpBlocks ?? [])),
    });
  }

  #condition(key: string, values: readonly string[], notValues: readonly string[]): PolicyMatch {
    switch (key) {
      case 'source.ip':
        return matchOf({
          sourceIps: this.#positive(key, readCidrs(values)),
          notSourceIps: this.#negative(key, readCidrs(notValues)),
        });
      case 'source.namespace':
        return matchOf({ namespaces: values.map(stringMatch), notNamespaces: notValues.map(stringMatch) });
      case 'source.principal':
        return matchOf({
          principals: principalMatches(values, this.#trustDomains),
          notPrincipals: principalMatches(notValues, this.#trustDomains),
        });
      case 'destination.ip':
        return matchOf({
          destinationIps: this.#positive(key, readCidrs(values)),
          notDestinationIps: this.#negative(key, readCidrs(notValues)),
        });
      case 'destination.port':
        return matchOf({
          destinationPorts: this.#positive(key, readPorts(values)),
          notDestinationPorts: this.#negative(key, readPorts(notValues)),
        });
      default:
        this.#unsupported(key);
        return matchOf({});
    }
  }

  #leaveOut(from: object, attributes: readonly string[]): void {
    for (const attribute of attributes) {
      const values: unknown = from[attribute as keyof typeof from];
      if (Array.isArray(values) && values.length > 0) this.#unsupported(attribute);
    }
  }

  #unsupported(attribute: string): void {
    this.unsupported.push(attribute);
    this.exact = false;
  }

  /** Leaving one of several values out narrows the match; leaving the last one out removes the condition. */
  #positive<T>(attribute: string, { values, unreadable }: Readable<T>): readonly T[] {
    if (unreadable.length > 0) {
      this.unsupported.push(unreadableText(attribute, unreadable));
      if (values.length === 0) this.exact = false;
    }
    return values;
  }

  /** Leaving any value of a negative list out lets more through. */
  #negative<T>(attribute: string, { values, unreadable }: Readable<T>): readonly T[] {
    if (unreadable.length > 0) this.#unsupported(unreadableText(attribute, unreadable));
    return values;
  }
}

const unreadableText = (attribute: string, unreadable: readonly string[]): string =>
  `${attribute} (unreadable: ${unreadable.join(', ')})`;

function explain(
  action: 'ALLOW' | 'DENY',
  unsupported: readonly string[],
  rules: readonly PolicyRule[],
): string {
  if (unsupported.length === 0) return 'enforced by node proxies';
  const list = unsupported.join(', ');
  if (action === 'ALLOW')
    return `node proxies cannot enforce ${list}; rules that use them are omitted, so they allow nothing here`;
  return rules.some(canMatch)
    ? `node proxies cannot enforce ${list}; the policy is enforced without them and may deny more than it says`
    : `node proxies cannot enforce ${list} and nothing else is left of the policy; it has no effect without a waypoint`;
}

/** A rule with a clause of only empty matches never applies. */
function canMatch(rule: PolicyRule): boolean {
  return rule.clauses.every((clause) =>
    clause.some((match) => Object.values(match).some((values: readonly unknown[]) => values.length > 0)),
  );
}

const notSent = (reason: 'dry-run' | 'waypoint' | 'action', text: string): Conversion => ({
  kind: 'not-sent',
  reason,
  explain: text,
});
