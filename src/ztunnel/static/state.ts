// The static state file as a whole: text to workloads, services and policies, or the first thing that is wrong with it
// (ztunnel.md §1.6). YAML, and JSON as a part of YAML.

import { LineCounter, parseDocument } from 'yaml';
import { MeshError } from '#base/errors.ts';
import { type Address, addressName } from '#model/address.ts';
import { type Policy, policyKey } from '#model/policy.ts';
import { type ServiceKey, serviceKey } from '#model/workload.ts';
import { Fields, lineOf, list, type SourceText, type Value, value, wrong } from './fields.ts';
import { policy } from './policy.ts';
import { type NamedEndpoint, service } from './service.ts';
import { workload } from './workload.ts';

export interface StaticState {
  /** By the name under which they are removed. */
  readonly addresses: ReadonlyMap<string, Address>;
  readonly policies: ReadonlyMap<string, Policy>;
}

/** Of policies' string matches (policy.ts); the library warns of every tag that YAML itself does not define. */
const KNOWN_TAGS = /^Unresolved tag: !(?:Exact|Prefix|Suffix|Presence) /;

/** @throws MeshError CONFIG_INVALID with the name, the line, the thing, and what is expected. */
export function parseStaticState(text: string, name: string): StaticState {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const problem = document.errors[0] ?? document.warnings.find(({ message }) => !KNOWN_TAGS.test(message));
  if (problem !== undefined) {
    const line = problem.linePos?.[0].line ?? 1;
    const why = problem.message.split('\n')[0]?.replace(/ at line \d+.*$/, '');
    throw new MeshError('CONFIG_INVALID', `${name}, line ${line}: ${why}`, { details: { line } });
  }
  const source: SourceText = { name, lines, document };
  if (document.contents === null) return { addresses: new Map(), policies: new Map() };
  const top = new Fields(value(source, document.contents, 'the file'), ['workloads', 'services', 'policies']);
  const read = <T>(
    key: string,
    what: string,
    one: (of: Value) => T,
  ): { readonly at: Value; readonly is: T }[] =>
    top.optional(
      key,
      (all) =>
        list(all, (entry, index) => {
          const at = { ...entry, what: `${what} ${index + 1}` };
          return { at, is: one(at) };
        }),
      [],
    );
  const workloads = read('workloads', 'workload', workload);
  const services = read('services', 'service', service);
  const addresses = new Map<string, Address>();
  const placed = new Map<string, Value>();
  for (const { at, is } of workloads) put(addresses, placed, at, { kind: 'workload', workload: is });
  for (const { at, is } of services) {
    for (const endpoint of is.endpoints)
      join(addresses, endpoint, serviceKey(is.service.namespace, is.service.hostname));
    put(addresses, placed, at, { kind: 'service', service: is.service });
  }
  const policies = new Map<string, Policy>();
  for (const { at, is } of read('policies', 'policy', policy)) {
    const key = policyKey(is);
    unique(placed, `policy ${key}`, at);
    policies.set(key, is);
  }
  return { addresses, policies };
}

function put(all: Map<string, Address>, placed: Map<string, Value>, at: Value, address: Address): void {
  const name = addressName(address);
  // One without a uid is fine; a second one would replace it without a word.
  unique(placed, name === '' ? 'a workload without uid' : name, at);
  all.set(name, address);
}

function unique(placed: Map<string, Value>, name: string, at: Value): void {
  const earlier = placed.get(name);
  if (earlier !== undefined)
    throw wrong(at, `no second ${name}; the first stands in line ${lineOf(earlier)}`);
  placed.set(name, at);
}

/** The model knows endpoints from their workloads only. */
function join(all: Map<string, Address>, { at, uid, ports }: NamedEndpoint, key: ServiceKey): void {
  const found = all.get(uid);
  if (found?.kind !== 'workload') throw wrong(at, `the uid of a workload of this file, not "${uid}"`);
  if (found.workload.services.has(key)) return;
  const services = new Map(found.workload.services).set(key, ports);
  all.set(uid, { kind: 'workload', workload: { ...found.workload, services } });
}
