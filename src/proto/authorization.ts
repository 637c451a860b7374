// `istio.security.Authorization` messages ⇄ the model's policies (ztunnel.md §3.7, §8.3).
//
// A condition that cannot be read (a string match without a kind, a range that does not fit) does not refuse the policy: a
// DENY that is missing would let everything in. The field drops it, which can widen an ALLOW and empty a DENY. Here it is
// read so that nobody gets in by it: in an ALLOW it never matches, in a DENY it always does. The caller is told.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { EmptySchema } from '@bufbuild/protobuf/wkt';
import { MeshError } from '#base/errors.ts';
import { EMPTY_MATCH, type Policy, type PolicyMatch, type StringMatch } from '#model/policy.ts';
import { type Cidr, cidrOf } from '#net/cidr.ts';
import { ipFromBytes, ipToBytes } from '#net/ip.ts';
import { reject } from './fields.ts';
import * as wire from './gen/authorization_pb.js';

export const AUTHORIZATION_TYPE_URL = 'type.googleapis.com/istio.security.Authorization';

/** @throws MeshError `XDS_RESOURCE_REJECTED` whose message is the reason for the NACK. */
export function decodeAuthorization(
  bytes: Uint8Array,
  onUnreadable: (what: string) => void = () => {},
): Policy {
  let message: wire.Authorization;
  try {
    message = fromBinary(wire.AuthorizationSchema, bytes, { readUnknownFields: false });
  } catch (error) {
    throw MeshError.from(error, 'XDS_RESOURCE_REJECTED', 'not an istio.security.Authorization');
  }
  const action = ACTIONS[message.action] ?? reject(`action ${message.action} is unknown`);
  return {
    name: message.name,
    namespace: message.namespace,
    scope: SCOPES[message.scope] ?? reject(`scope ${message.scope} is unknown`),
    action,
    rules: message.rules.map((rule) => ({
      clauses: rule.clauses.map((clause) => clauseFrom(clause.matches, action, onUnreadable)),
    })),
    dryRun: message.dryRun,
  };
}

export function encodeAuthorization(policy: Policy): Uint8Array {
  const message = create(wire.AuthorizationSchema, {
    name: policy.name,
    namespace: policy.namespace,
    scope: SCOPES.indexOf(policy.scope),
    action: ACTIONS.indexOf(policy.action),
    rules: policy.rules.map((rule) => ({
      clauses: rule.clauses.map((clause) => ({ matches: clause.map(matchTo) })),
    })),
    dryRun: policy.dryRun,
  });
  return toBinary(wire.AuthorizationSchema, message);
}

/** Index is the number on the wire. */
const SCOPES: readonly Policy['scope'][] = ['Global', 'Namespace', 'WorkloadSelector'];
const ACTIONS: readonly Policy['action'][] = ['Allow', 'Deny'];

function clauseFrom(
  matches: readonly wire.Match[],
  action: Policy['action'],
  onUnreadable: (what: string) => void,
): PolicyMatch[] {
  const clause: PolicyMatch[] = [];
  for (const match of matches) {
    const { fields, unreadable } = readMatch(match);
    for (const { what } of unreadable) onUnreadable(what);
    const names = unreadable.map(({ field }) => field);
    if (names.length === 0) clause.push(fields);
    else if (action === 'Allow') clause.push(narrowed(fields, names));
    else {
      const wide = widened(fields, names);
      // Nothing is left that it asks for: the clause holds for everybody, which is what an empty one says.
      if (wide === undefined) return [];
      clause.push(wide);
    }
  }
  return clause;
}

type FieldName = keyof PolicyMatch;

const isNegative = (name: FieldName): boolean => name.startsWith('not');

/** Other values of a positive field may still match; without one, or with an exclusion that is not known, nothing does. */
function narrowed(fields: PolicyMatch, unreadable: readonly FieldName[]): PolicyMatch {
  const isLost = unreadable.some((name) => isNegative(name) || fields[name].length === 0);
  return isLost ? EMPTY_MATCH : fields;
}

/** Whoever the unreadable value might have named is named; whoever it might have excepted is not excepted. */
function widened(fields: PolicyMatch, unreadable: readonly FieldName[]): PolicyMatch | undefined {
  const wide: PolicyMatch = {
    ...fields,
    ...Object.fromEntries(unreadable.filter((name) => !isNegative(name)).map((name) => [name, []])),
  };
  return Object.values(wide).some((values) => values.length > 0) ? wide : undefined;
}

interface ReadMatch {
  readonly fields: PolicyMatch;
  readonly unreadable: readonly { readonly field: FieldName; readonly what: string }[];
}

function readMatch(match: wire.Match): ReadMatch {
  const unreadable: { field: FieldName; what: string }[] = [];
  const strings = (field: FieldName, values: readonly wire.StringMatch[]): StringMatch[] =>
    values.flatMap(({ matchType }): StringMatch[] => {
      if (matchType.case === undefined) {
        unreadable.push({ field, what: 'a string match without a kind' });
        return [];
      }
      return matchType.case === 'presence'
        ? [{ kind: 'presence' }]
        : [{ kind: matchType.case, text: matchType.value }];
    });
  const cidrs = (field: FieldName, values: readonly wire.Address[]): Cidr[] =>
    values.flatMap(({ address, length }) => {
      const range =
        address.length === 4 || address.length === 16 ? cidrOf(ipFromBytes(address), length) : undefined;
      if (range === undefined)
        unreadable.push({ field, what: `a range of ${address.length} bytes and prefix length ${length}` });
      return range === undefined ? [] : [range];
    });
  const accounts = (values: readonly wire.ServiceAccountMatch[]): PolicyMatch['serviceAccounts'] =>
    values.map(({ namespace, serviceAccount }) => ({ namespace, serviceAccount }));
  const ports = (field: FieldName, values: readonly number[]): number[] =>
    values.filter((port) => {
      if (port > 0xffff) unreadable.push({ field, what: `port ${port}` });
      return port <= 0xffff;
    });
  const fields: PolicyMatch = {
    namespaces: strings('namespaces', match.namespaces),
    notNamespaces: strings('notNamespaces', match.notNamespaces),
    serviceAccounts: accounts(match.serviceAccounts),
    notServiceAccounts: accounts(match.notServiceAccounts),
    principals: strings('principals', match.principals),
    notPrincipals: strings('notPrincipals', match.notPrincipals),
    sourceIps: cidrs('sourceIps', match.sourceIps),
    notSourceIps: cidrs('notSourceIps', match.notSourceIps),
    destinationIps: cidrs('destinationIps', match.destinationIps),
    notDestinationIps: cidrs('notDestinationIps', match.notDestinationIps),
    destinationPorts: ports('destinationPorts', match.destinationPorts),
    notDestinationPorts: ports('notDestinationPorts', match.notDestinationPorts),
  };
  return { fields, unreadable };
}

function matchTo(match: PolicyMatch): wire.Match {
  const strings = (values: readonly StringMatch[]): wire.StringMatch[] =>
    values.map((value) =>
      create(wire.StringMatchSchema, {
        matchType:
          value.kind === 'presence'
            ? { case: 'presence', value: create(EmptySchema) }
            : { case: value.kind, value: value.text },
      }),
    );
  const cidrs = (values: readonly Cidr[]): wire.Address[] =>
    values.map(({ address, prefixLength }) =>
      create(wire.AddressSchema, { address: ipToBytes(address), length: prefixLength }),
    );
  const accounts = (values: PolicyMatch['serviceAccounts']): wire.ServiceAccountMatch[] =>
    values.map((value) => create(wire.ServiceAccountMatchSchema, value));
  return create(wire.MatchSchema, {
    namespaces: strings(match.namespaces),
    notNamespaces: strings(match.notNamespaces),
    serviceAccounts: accounts(match.serviceAccounts),
    notServiceAccounts: accounts(match.notServiceAccounts),
    principals: strings(match.principals),
    notPrincipals: strings(match.notPrincipals),
    sourceIps: cidrs(match.sourceIps),
    notSourceIps: cidrs(match.notSourceIps),
    destinationIps: cidrs(match.destinationIps),
    notDestinationIps: cidrs(match.notDestinationIps),
    destinationPorts: [...match.destinationPorts],
    notDestinationPorts: [...match.notDestinationPorts],
  });
}
