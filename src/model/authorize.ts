// May this connection reach this destination? A pure verdict by ztunnel.md §8.2 and §8.3, quirks included, that names the
// policy, the rule and what decided. Which policies apply is the store's answer (policiesFor).

import { cidrContains } from '#net/cidr.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';
import { parseSpiffeId, type SpiffeId } from './identity.ts';
import { type Policy, type PolicyKey, type PolicyMatch, policyKey, type StringMatch } from './policy.ts';

export interface ConnectionFacts {
  /** The TCP peer. */
  readonly sourceIp: IpAddress;
  /** From the peer's certificate; undefined for plaintext. */
  readonly identity: SpiffeId | undefined;
  /** The resolved target: pod address and target port. */
  readonly destination: { readonly ip: IpAddress; readonly port: number };
}

export interface DryRunNote {
  readonly policy: PolicyKey | undefined;
  readonly explain: string;
}

export type Verdict =
  | {
      readonly verdict: 'allow';
      readonly reason: 'no-allow-policy' | 'allowed-by-policy';
      readonly policy?: PolicyKey;
      readonly rule?: number;
      readonly explain: string;
      readonly dryRun: readonly DryRunNote[];
    }
  | {
      readonly verdict: 'deny';
      readonly reason: 'denied-by-policy' | 'no-allow-matched';
      /** The policy that denied, or the ALLOW policy that came closest; absent when none has a rule. */
      readonly policy?: PolicyKey;
      readonly rule?: number;
      /** Index of the clause that failed (`no-allow-matched`). */
      readonly clause?: number;
      readonly explain: string;
      readonly dryRun: readonly DryRunNote[];
    };

export function authorize(policies: readonly Policy[], facts: ConnectionFacts): Verdict {
  if (policies.length === 0) return noAllowPolicy([]);
  const peer = peerOf(facts);
  const dryRun: DryRunNote[] = [];
  const having = (action: Policy['action'], dry: boolean): Policy[] =>
    policies.filter((policy) => policy.action === action && policy.dryRun === dry);

  for (const policy of having('Deny', true)) {
    const rule = matchingRule(policy, peer);
    if (rule !== undefined)
      dryRun.push(noted(policy, `would deny: rule ${rule} of ${policyKey(policy)} matches`));
  }
  for (const policy of having('Deny', false)) {
    const rule = matchingRule(policy, peer);
    if (rule === undefined) continue;
    const key = policyKey(policy);
    return {
      verdict: 'deny',
      reason: 'denied-by-policy',
      policy: key,
      rule,
      explain: `explicitly denied by: ${key} (rule ${rule}: ${whatMatched(policy, rule, peer)})`,
      dryRun,
    };
  }

  const allow = having('Allow', false);
  const dryAllow = having('Allow', true);
  let dryMatched = false;
  for (const policy of dryAllow) {
    const rule = matchingRule(policy, peer);
    if (rule === undefined) continue;
    dryMatched = true;
    dryRun.push(noted(policy, `would allow: rule ${rule} of ${policyKey(policy)} matches`));
  }
  if (dryAllow.length > 0 && allow.length === 0 && !dryMatched)
    dryRun.push({
      policy: undefined,
      explain: 'would be denied: dry-run allow policies exist, but none matches',
    });

  if (allow.length === 0) return noAllowPolicy(dryRun);
  for (const policy of allow) {
    const rule = matchingRule(policy, peer);
    if (rule === undefined) continue;
    const key = policyKey(policy);
    const explain = `allowed by: ${key} (rule ${rule})`;
    return { verdict: 'allow', reason: 'allowed-by-policy', policy: key, rule, explain, dryRun };
  }
  return refusedByAll(allow, peer, dryRun);
}

function noAllowPolicy(dryRun: readonly DryRunNote[]): Verdict {
  return { verdict: 'allow', reason: 'no-allow-policy', explain: 'no allow policy applies', dryRun };
}

interface Peer extends ConnectionFacts {
  /** Without `spiffe://`. */
  readonly principal: string | undefined;
  /** Empty for plaintext. */
  readonly namespace: string;
  readonly serviceAccount: string | undefined;
}

function peerOf(facts: ConnectionFacts): Peer {
  const parsed = facts.identity === undefined ? undefined : parseSpiffeId(facts.identity);
  return {
    ...facts,
    principal: facts.identity?.slice('spiffe://'.length),
    namespace: parsed?.namespace ?? '',
    serviceAccount: parsed?.serviceAccount,
  };
}

function matchingRule(policy: Policy, peer: Peer): number | undefined {
  const index = policy.rules.findIndex((rule) => rule.clauses.every((clause) => clauseHolds(clause, peer)));
  return index < 0 ? undefined : index;
}

function clauseHolds(clause: readonly PolicyMatch[], peer: Peer): boolean {
  return clause.length === 0 || clause.some((match) => failureOf(match, peer) === undefined);
}

/** What a match holds against the peer, field by field; undefined when it matches. Allocates only to explain. */
function failureOf(match: PolicyMatch, peer: Peer): Failure | undefined {
  let populated = false;
  for (const field of FIELDS) {
    const positive = match[field.positive] as readonly never[];
    const negative = match[field.negative] as readonly never[];
    if (positive.length > 0) {
      populated = true;
      if (!positive.some((value) => field.test(value, peer))) return { field, negated: false };
    }
    if (negative.length > 0) {
      populated = true;
      if (negative.some((value) => field.test(value, peer))) return { field, negated: true };
    }
  }
  return populated ? undefined : EMPTY_MATCH;
}

interface Failure {
  /** Undefined: the match names nothing, and so never matches. */
  readonly field: Field | undefined;
  readonly negated: boolean;
}
const EMPTY_MATCH: Failure = { field: undefined, negated: false };

interface Field {
  readonly positive: keyof PolicyMatch;
  readonly negative: keyof PolicyMatch;
  /** As it stands in an explanation. */
  readonly noun: string;
  /** `value` has the type of the field's elements. */
  test(value: never, peer: Peer): boolean;
  show(peer: Peer): string;
  showValue(value: never): string;
}

interface TypedField<V> {
  readonly noun: string;
  test(value: V, peer: Peer): boolean;
  show(peer: Peer): string;
  showValue(value: V): string;
}

type Elements<K extends keyof PolicyMatch> = PolicyMatch[K] extends readonly (infer V)[] ? V : never;

function field<K extends keyof PolicyMatch>(
  positive: K,
  negative: keyof PolicyMatch,
  rest: TypedField<Elements<K>>,
): Field {
  return { positive, negative, ...(rest as unknown as TypedField<never>) };
}

const inPlaintext = 'none (plaintext)';

const FIELDS: readonly Field[] = [
  field('namespaces', 'notNamespaces', {
    noun: 'source namespace',
    test: (value, peer) => stringMatches(value, peer.namespace),
    show: (peer) => (peer.namespace === '' ? inPlaintext : JSON.stringify(peer.namespace)),
    showValue: showStringMatch,
  }),
  field('serviceAccounts', 'notServiceAccounts', {
    noun: 'source service account',
    test: (value, peer) =>
      peer.serviceAccount !== undefined &&
      value.namespace === peer.namespace &&
      value.serviceAccount === peer.serviceAccount,
    show: (peer) =>
      peer.serviceAccount === undefined ? inPlaintext : `"${peer.namespace}/${peer.serviceAccount}"`,
    showValue: (value) => `"${value.namespace}/${value.serviceAccount}"`,
  }),
  field('principals', 'notPrincipals', {
    noun: 'source principal',
    test: (value, peer) => peer.principal !== undefined && stringMatches(value, peer.principal),
    show: (peer) => (peer.principal === undefined ? inPlaintext : JSON.stringify(peer.principal)),
    showValue: showStringMatch,
  }),
  field('sourceIps', 'notSourceIps', {
    noun: 'source address',
    test: (value, peer) => cidrContains(value, peer.sourceIp),
    show: (peer) => peer.sourceIp,
    showValue: showRange,
  }),
  field('destinationIps', 'notDestinationIps', {
    noun: 'destination address',
    test: (value, peer) => cidrContains(value, peer.destination.ip),
    show: (peer) => peer.destination.ip,
    showValue: showRange,
  }),
  field('destinationPorts', 'notDestinationPorts', {
    noun: 'destination port',
    test: (value, peer) => value === peer.destination.port,
    show: (peer) => String(peer.destination.port),
    showValue: String,
  }),
];

function stringMatches(match: StringMatch, text: string): boolean {
  switch (match.kind) {
    case 'exact':
      return text === match.text;
    case 'prefix':
      return text.startsWith(match.text);
    case 'suffix':
      return text.endsWith(match.text);
    case 'presence':
      return text !== '';
  }
}

function showStringMatch(match: StringMatch): string {
  switch (match.kind) {
    case 'exact':
      return JSON.stringify(match.text);
    case 'prefix':
      return JSON.stringify(`${match.text}*`);
    case 'suffix':
      return JSON.stringify(`*${match.text}`);
    case 'presence':
      return 'any';
  }
}

function showRange(range: { readonly address: IpAddress; readonly prefixLength: number }): string {
  const width = familyOf(range.address) === 4 ? 32 : 128;
  return range.prefixLength === width ? range.address : `${range.address}/${range.prefixLength}`;
}

const VALUES_SHOWN = 4;

function showFailure(match: PolicyMatch, failure: Failure, peer: Peer): string {
  const { field: failed } = failure;
  if (failed === undefined) return 'the match is empty, and an empty match never matches';
  const values = match[failure.negated ? failed.negative : failed.positive] as readonly never[];
  const shown = values.slice(0, VALUES_SHOWN).map((value) => failed.showValue(value));
  if (values.length > VALUES_SHOWN) shown.push(`${values.length - VALUES_SHOWN} more`);
  const relation = failure.negated ? 'is excluded by' : 'is not in';
  return `${failed.noun} ${failed.show(peer)} ${relation} [${shown.join(', ')}]`;
}

/** The facts that a matching rule looked at. */
function whatMatched(policy: Policy, rule: number, peer: Peer): string {
  const facts = new Set<string>();
  for (const clause of policy.rules[rule]!.clauses) {
    const match = clause.find((candidate) => failureOf(candidate, peer) === undefined);
    if (match === undefined) continue;
    for (const candidate of FIELDS)
      if (match[candidate.positive].length > 0 || match[candidate.negative].length > 0)
        facts.add(`${candidate.noun} ${candidate.show(peer)}`);
  }
  return facts.size === 0 ? 'matches everything' : [...facts].join(', ');
}

/** Names the ALLOW rule that came closest: the one with the most clauses satisfied. */
function refusedByAll(allow: readonly Policy[], peer: Peer, dryRun: readonly DryRunNote[]): Verdict {
  let closest: { policy: Policy; rule: number; clause: number; held: number } | undefined;
  for (const policy of allow) {
    for (const [ruleIndex, { clauses }] of policy.rules.entries()) {
      const holds = clauses.map((clause) => clauseHolds(clause, peer));
      const held = holds.filter(Boolean).length;
      if (closest === undefined || held > closest.held)
        closest = { policy, rule: ruleIndex, clause: holds.indexOf(false), held };
    }
  }
  const base = 'allow policies exist, but none allowed';
  const only = allow.length === 1 ? policyKey(allow[0]!) : undefined;
  if (closest === undefined) {
    const names = allow.map(policyKey).join(', ');
    const explain = `${base}: ${names} ${allow.length === 1 ? 'has' : 'have'} no rule that could match`;
    return {
      verdict: 'deny',
      reason: 'no-allow-matched',
      ...(only === undefined ? {} : { policy: only }),
      explain,
      dryRun,
    };
  }
  const { policy, rule, clause } = closest;
  const key = policyKey(policy);
  const matches = policy.rules[rule]!.clauses[clause]!;
  const reasons = matches.map((match) => showFailure(match, failureOf(match, peer)!, peer));
  const explain = `${base}: closest is ${key} rule ${rule}, clause ${clause}: ${reasons.slice(0, VALUES_SHOWN).join('; ')}`;
  return { verdict: 'deny', reason: 'no-allow-matched', policy: key, rule, clause, explain, dryRun };
}

function noted(policy: Policy, explain: string): DryRunNote {
  return { policy: policyKey(policy), explain };
}
