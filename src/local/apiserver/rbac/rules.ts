// What one rule allows, and whether some rules hold everything that others grant. Pure.

import type { PolicyRule } from '#k8s/rbac.ts';
import type { Access, ResourceAccess } from './access.ts';

const ANY = '*';

const has = (list: readonly string[] | undefined, wanted: string): boolean =>
  list !== undefined && (list.includes(ANY) || list.includes(wanted));

export function ruleAllows(rule: PolicyRule, access: Access): boolean {
  if (!has(rule.verbs, access.verb)) return false;
  return access.kind === 'path'
    ? (rule.nonResourceURLs ?? []).some((url) => urlMatches(url, access.path))
    : resourceAllowed(rule, access);
}

function resourceAllowed(rule: PolicyRule, access: ResourceAccess): boolean {
  const { group, resource, subresource, name } = access;
  return (
    has(rule.apiGroups, group) &&
    (rule.resources ?? []).some((each) => resourceMatches(each, resource, subresource)) &&
    namesMatch(rule.resourceNames, name)
  );
}

/** `*` is everything, parts included; a resource's name alone is the object without its parts. */
function resourceMatches(wanted: string, resource: string, subresource: string): boolean {
  if (wanted === ANY) return true;
  if (subresource === '') return wanted === resource;
  return wanted === `${resource}/${subresource}` || wanted === `${ANY}/${subresource}`;
}

const namesMatch = (names: readonly string[] | undefined, name: string): boolean =>
  names === undefined || names.length === 0 || (name !== '' && names.includes(name));

const urlMatches = (wanted: string, path: string): boolean =>
  wanted === ANY || wanted === path || (wanted.endsWith(ANY) && path.startsWith(wanted.slice(0, -1)));

/** Everything that `wanted` grants and `held` does not, in pieces of one verb on one thing. */
export function missingRules(held: readonly PolicyRule[], wanted: readonly PolicyRule[]): PolicyRule[] {
  return wanted.flatMap(pieces).filter((piece) => !held.some((rule) => covers(rule, piece)));
}

function pieces(rule: PolicyRule): PolicyRule[] {
  const found: PolicyRule[] = [];
  for (const verb of rule.verbs) {
    for (const url of rule.nonResourceURLs ?? []) found.push({ verbs: [verb], nonResourceURLs: [url] });
    for (const group of rule.apiGroups ?? [])
      for (const resource of rule.resources ?? []) {
        const piece = { verbs: [verb], apiGroups: [group], resources: [resource] };
        const names = rule.resourceNames ?? [];
        if (names.length === 0) found.push(piece);
        for (const name of names) found.push({ ...piece, resourceNames: [name] });
      }
  }
  return found;
}

/** A `*` is covered by a `*` only: it also means what does not exist yet. */
function covers(rule: PolicyRule, piece: PolicyRule): boolean {
  if (!has(rule.verbs, piece.verbs[0]!)) return false;
  const url = piece.nonResourceURLs?.[0];
  if (url !== undefined) return (rule.nonResourceURLs ?? []).some((held) => urlMatches(held, url));
  const [resource = '', subresource = ''] = split(piece.resources![0]!);
  return (
    has(rule.apiGroups, piece.apiGroups![0]!) &&
    (rule.resources ?? []).some((held) => resourceMatches(held, resource, subresource)) &&
    (piece.resourceNames === undefined
      ? (rule.resourceNames ?? []).length === 0
      : namesMatch(rule.resourceNames, piece.resourceNames[0]!))
  );
}

function split(resource: string): [string, string] {
  const slash = resource.indexOf('/');
  return slash < 0 ? [resource, ''] : [resource.slice(0, slash), resource.slice(slash + 1)];
}

/** One line per thing with all its verbs, as the server prints them: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`. */
export function describeRules(rules: readonly PolicyRule[]): string[] {
  const merged = new Map<string, PolicyRule>();
  for (const { verbs, ...thing } of rules) {
    const key = JSON.stringify([
      thing.apiGroups,
      thing.resources,
      thing.resourceNames,
      thing.nonResourceURLs,
    ]);
    const known = merged.get(key);
    if (known === undefined) merged.set(key, { ...thing, verbs: [...verbs] });
    else known.verbs.push(...verbs.filter((verb) => !known.verbs.includes(verb)));
  }
  return [...merged.values()].map(compactText).sort();
}

function compactText(rule: PolicyRule): string {
  const parts: [string, readonly string[] | undefined][] = [
    ['APIGroups', rule.apiGroups],
    ['Resources', rule.resources],
    ['NonResourceURLs', rule.nonResourceURLs],
    ['ResourceNames', rule.resourceNames],
    ['Verbs', rule.verbs],
  ];
  const texts = parts
    .filter(([, list]) => list !== undefined && list.length > 0)
    .map(([name, list]) => `${name}:${quotedList(list!)}`);
  return `{${texts.join(', ')}}`;
}

export const quotedList = (list: readonly string[]): string =>
  `[${list.map((each) => JSON.stringify(each)).join(' ')}]`;
