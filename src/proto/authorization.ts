// `istio.security.Authorization` messages ⇄ the model's policies (ztunnel.md §3.7, §8.3).
// As the field does, single conditions that cannot be read (a string match without a kind, a CIDR that does not fit) are
// dropped rather than the policy refused; they are reported to the caller, because that can widen a policy.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { EmptySchema } from '@bufbuild/protobuf/wkt';
import { MeshError } from '#base/errors.ts';
import type { Policy, PolicyMatch, StringMatch } from '#model/policy.ts';
import { type Cidr, cidrOf } from '#net/cidr.ts';
import { ipFromBytes, ipToBytes } from '#net/ip.ts';
import { reject } from './fields.ts';
import * as wire from './gen/authorization_pb.js';

export const AUTHORIZATION_TYPE_URL = 'type.googleapis.com/istio.security.Authorization';

/** @throws MeshError `XDS_RESOURCE_REJECTED` whose message is the reason for the NACK. */
export function decodeAuthorization(bytes: Uint8Array, onDropped: (what: string) => void = () => {}): Policy {
  let message: wire.Authorization;
  try {
    message = fromBinary(wire.AuthorizationSchema, bytes, { readUnknownFields: false });
  } catch (error) {
    throw MeshError.from(error, 'XDS_RESOURCE_REJECTED', 'not an istio.security.Authorization');
  }
  return {
    name: message.name,
    namespace: message.namespace,
    scope: SCOPES[message.scope] ?? reject(`scope ${message.scope} is unknown`),
    action: ACTIONS[message.action] ?? reject(`action ${message.action} is unknown`),
    rules: message.rules.map((rule) => ({
      clauses: rule.clauses.map((clause) => clause.matches.map((match) => matchFrom(match, onDropped))),
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

function matchFrom(match: wire.Match, onDropped: (what: string) => void): PolicyMatch {
  const strings = (values: readonly wire.StringMatch[]): StringMatch[] =>
    values.flatMap(({ matchType }): StringMatch[] => {
      if (matchType.case === undefined) {
        onDropped('a string match without a kind');
        return [];
      }
      return matchType.case === 'presence'
        ? [{ kind: 'presence' }]
        : [{ kind: matchType.case, text: matchType.value }];
    });
  const cidrs = (values: readonly wire.Address[]): Cidr[] =>
    values.flatMap(({ address, length }) => {
      const range =
        address.length === 4 || address.length === 16 ? cidrOf(ipFromBytes(address), length) : undefined;
      if (range === undefined) onDropped(`a range of ${address.length} bytes and prefix length ${length}`);
      return range === undefined ? [] : [range];
    });
  const accounts = (values: readonly wire.ServiceAccountMatch[]): PolicyMatch['serviceAccounts'] =>
    values.map(({ namespace, serviceAccount }) => ({ namespace, serviceAccount }));
  const ports = (values: readonly number[]): number[] => values.map((port) => port & 0xffff);
  return {
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
    destinationPorts: ports(match.destinationPorts),
    notDestinationPorts: ports(match.notDestinationPorts),
  };
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
