// Policy entries of the static state file (ztunnel.md §1.6). A condition with an unknown key is refused: ignoring it would
// widen the policy.

import type { Policy, PolicyMatch, PolicyRule, StringMatch } from '#model/policy.ts';
import { boolean, cidr, entriesOf, Fields, list, oneOf, port, text, type Value, wrong } from './fields.ts';

const KEYS = ['name', 'namespace', 'scope', 'action', 'rules', 'dryRun'] as const;
const MATCH_KEYS = [
  'namespaces',
  'notNamespaces',
  'serviceAccounts',
  'notServiceAccounts',
  'principals',
  'notPrincipals',
  'sourceIps',
  'notSourceIps',
  'destinationIps',
  'notDestinationIps',
  'destinationPorts',
  'notDestinationPorts',
] as const;

export function policy(entry: Value): Policy {
  const fields = new Fields(entry, KEYS);
  return {
    name: fields.required('name', text),
    namespace: fields.required('namespace', text),
    scope: fields.required('scope', oneOf(['Global', 'Namespace', 'WorkloadSelector'])),
    action: fields.required('action', oneOf(['Allow', 'Deny'])),
    rules: fields.required('rules', (rules) => list(rules, rule)),
    dryRun: fields.required('dryRun', boolean),
  };
}

function rule(of: Value): PolicyRule {
  return { clauses: list(of, (clause) => list(clause, match)) };
}

function match(of: Value): PolicyMatch {
  const fields = new Fields(of, MATCH_KEYS);
  const all = <T>(key: (typeof MATCH_KEYS)[number], read: (value: Value) => T): T[] =>
    fields.optional(key, (values) => list(values, read), []);
  return {
    namespaces: all('namespaces', stringMatch),
    notNamespaces: all('notNamespaces', stringMatch),
    serviceAccounts: all('serviceAccounts', serviceAccount),
    notServiceAccounts: all('notServiceAccounts', serviceAccount),
    principals: all('principals', stringMatch),
    notPrincipals: all('notPrincipals', stringMatch),
    sourceIps: all('sourceIps', cidr),
    notSourceIps: all('notSourceIps', cidr),
    destinationIps: all('destinationIps', cidr),
    notDestinationIps: all('notDestinationIps', cidr),
    destinationPorts: all('destinationPorts', port),
    notDestinationPorts: all('notDestinationPorts', port),
  };
}

const KINDS: Readonly<Record<string, Exclude<StringMatch['kind'], 'presence'>>> = {
  Exact: 'exact',
  Prefix: 'prefix',
  Suffix: 'suffix',
};

/** `!Exact shop`, as the field writes it, or `{ Exact: shop }`, which JSON can say, too. */
function stringMatch(of: Value): StringMatch {
  const form = 'one of "!Exact TEXT", "!Prefix TEXT", "!Suffix TEXT" or "!Presence []"';
  const tag = /^!(\w+)$/.exec(of.node?.tag ?? '')?.[1];
  const [entry, ...more] = tag === undefined ? entriesOf(of) : [{ key: tag, value: of }];
  const kind = KINDS[entry?.key ?? ''];
  if (entry === undefined || more.length > 0) throw wrong(of, form);
  if (kind !== undefined) return { kind, text: text(entry.value) };
  if (entry.key !== 'Presence' || list(entry.value, (one) => one).length > 0) throw wrong(of, form);
  return { kind: 'presence' };
}

function serviceAccount(of: Value): PolicyMatch['serviceAccounts'][number] {
  const fields = new Fields(of, ['namespace', 'serviceAccount']);
  return {
    namespace: fields.required('namespace', text),
    serviceAccount: fields.required('serviceAccount', text),
  };
}
