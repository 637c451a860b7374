// Our policies in the form of the field's static state file (ztunnel.md §1.6).

import type { Policy, PolicyMatch, StringMatch } from '#model/policy.ts';
import { type Cidr, formatCidr } from '#net/cidr.ts';

export function localPolicy(policy: Policy): object {
  return {
    ...policy,
    rules: policy.rules.map(({ clauses }) => clauses.map((matches) => matches.map(match))),
  };
}

function match(of: PolicyMatch): object {
  const form: Readonly<Record<keyof PolicyMatch, readonly unknown[]>> = {
    ...of,
    namespaces: of.namespaces.map(string),
    notNamespaces: of.notNamespaces.map(string),
    principals: of.principals.map(string),
    notPrincipals: of.notPrincipals.map(string),
    sourceIps: of.sourceIps.map(range),
    notSourceIps: of.notSourceIps.map(range),
    destinationIps: of.destinationIps.map(range),
    notDestinationIps: of.notDestinationIps.map(range),
  };
  return Object.fromEntries(Object.entries(form).filter(([, values]) => values.length > 0));
}

/** The field reads kinds as YAML tags, which JSON has not; `toYaml` makes them of these strings. */
function string(of: StringMatch): string {
  if (of.kind === 'presence') return '!Presence []';
  return `!${of.kind[0]!.toUpperCase()}${of.kind.slice(1)} ${of.text}`;
}

/** JSON is YAML, but for the tags. */
export function toYaml(state: object): string {
  return JSON.stringify(state, undefined, 1)
    .replaceAll('"!Presence []"', '!Presence []')
    .replaceAll(/"!(Exact|Prefix|Suffix) ([^"\\]*)"/g, '!$1 "$2"');
}

const range = (of: Cidr): string => formatCidr(of);
