// Label selectors: the structured form of objects, the string form of URLs, matching, and the way between them.

import { MeshError } from '#base/errors.ts';
import type { LabelSelector } from './objects.ts';

export type Labels = Readonly<Record<string, string>>;

/** One condition; a selector is the conjunction of its requirements. */
export type Requirement =
  | { readonly key: string; readonly operator: 'In' | 'NotIn'; readonly values: readonly string[] }
  | { readonly key: string; readonly operator: 'Exists' | 'DoesNotExist' }
  | { readonly key: string; readonly operator: 'Gt' | 'Lt'; readonly values: readonly [string] };

const own = (labels: Labels, key: string): string | undefined =>
  Object.hasOwn(labels, key) ? labels[key] : undefined;

function matchesRequirement(requirement: Requirement, labels: Labels): boolean {
  const value = own(labels, requirement.key);
  switch (requirement.operator) {
    case 'In':
      return value !== undefined && requirement.values.includes(value);
    case 'NotIn':
      // A label that is not there is not in the set either.
      return value === undefined || !requirement.values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
    case 'Lt': {
      if (value === undefined || !/^-?\d+$/.test(value)) return false;
      const difference = BigInt(value) - BigInt(requirement.values[0]);
      return requirement.operator === 'Gt' ? difference > 0n : difference < 0n;
    }
  }
}

/** No requirements match everything. */
export function matchesRequirements(
  requirements: readonly Requirement[],
  labels: Labels | undefined,
): boolean {
  return requirements.every((requirement) => matchesRequirement(requirement, labels ?? {}));
}

/** `matchLabels`-like maps of Services and node selectors: every pair must be there. An empty map matches everything. */
export function matchesLabels(wanted: Labels, labels: Labels | undefined): boolean {
  for (const key in wanted) if (own(labels ?? {}, key) !== wanted[key]) return false;
  return true;
}

/** An absent selector matches nothing, an empty one everything, as everywhere in Kubernetes. */
export function matchesSelector(selector: LabelSelector | undefined, labels: Labels | undefined): boolean {
  if (selector === undefined) return false;
  if (!matchesLabels(selector.matchLabels ?? {}, labels)) return false;
  return matchesRequirements(requirementsOf({ matchExpressions: selector.matchExpressions ?? [] }), labels);
}

export function requirementsOf(selector: LabelSelector): Requirement[] {
  const requirements: Requirement[] = Object.entries(selector.matchLabels ?? {}).map(([key, value]) => ({
    key,
    operator: 'In',
    values: [value],
  }));
  for (const { key, operator, values = [] } of selector.matchExpressions ?? [])
    requirements.push(
      operator === 'In' || operator === 'NotIn' ? { key, operator, values } : { key, operator },
    );
  return requirements;
}

/** The string form, as `labelSelector=` carries it. */
export function formatRequirements(requirements: readonly Requirement[]): string {
  return requirements.map(formatRequirement).join(',');
}

export const formatSelector = (selector: LabelSelector): string =>
  formatRequirements(requirementsOf(selector));

function formatRequirement(requirement: Requirement): string {
  const { key } = requirement;
  switch (requirement.operator) {
    case 'In':
      return requirement.values.length === 1
        ? `${key}=${requirement.values[0]}`
        : `${key} in (${requirement.values.join(',')})`;
    case 'NotIn':
      return requirement.values.length === 1
        ? `${key}!=${requirement.values[0]}`
        : `${key} notin (${requirement.values.join(',')})`;
    case 'Exists':
      return key;
    case 'DoesNotExist':
      return `!${key}`;
    case 'Gt':
      return `${key}>${requirement.values[0]}`;
    case 'Lt':
      return `${key}<${requirement.values[0]}`;
  }
}

const KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

/** Reads the string form: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`. Throws MeshError CONFIG_INVALID. */
export function parseSelector(text: string): Requirement[] {
  const tokens =
    text.match(/\s+|==|!=|[=!<>(),]|[^\s=!<>(),]+/g)?.filter((token) => token.trim() !== '') ?? [];
  const requirements: Requirement[] = [];
  let at = 0;

  const fail = (problem: string): never => {
    throw new MeshError('CONFIG_INVALID', `label selector ${JSON.stringify(text)}: ${problem}`);
  };
  const isWord = (token: string | undefined): token is string =>
    token !== undefined && !/^[=!<>(),]/.test(token);
  const readKey = (): string => {
    const token = tokens[at++];
    if (!isWord(token)) return fail(`found ${token ?? 'the end'} where a label key was expected`);
    return KEY.test(token) ? token : fail(`${JSON.stringify(token)} is no valid label key`);
  };
  const readValue = (): string => {
    // A value may be empty: `a=` and `a in (,b)` are well formed.
    const token = isWord(tokens[at]) ? (tokens[at++] as string) : '';
    return VALUE.test(token) ? token : fail(`${JSON.stringify(token)} is no valid label value`);
  };
  const readSet = (): string[] => {
    if (tokens[at++] !== '(') return fail('a set of values must stand in parentheses');
    const values = [readValue()];
    while (tokens[at] === ',') {
      at++;
      values.push(readValue());
    }
    return tokens[at++] === ')' ? values : fail('a set of values is not closed by )');
  };
  const readRequirement = (): Requirement => {
    if (tokens[at] === '!') {
      at++;
      return { key: readKey(), operator: 'DoesNotExist' };
    }
    const key = readKey();
    const operator = tokens[at];
    if (operator === undefined || operator === ',') return { key, operator: 'Exists' };
    at++;
    switch (operator) {
      case '=':
      case '==':
        return { key, operator: 'In', values: [readValue()] };
      case '!=':
        return { key, operator: 'NotIn', values: [readValue()] };
      case 'in':
        return { key, operator: 'In', values: readSet() };
      case 'notin':
        return { key, operator: 'NotIn', values: readSet() };
      case '>':
      case '<': {
        const value = readValue();
        if (!/^-?\d+$/.test(value)) return fail(`${JSON.stringify(value)} is no whole number`);
        return { key, operator: operator === '>' ? 'Gt' : 'Lt', values: [value] };
      }
      default:
        return fail(`found ${JSON.stringify(operator)} where an operator was expected`);
    }
  };

  if (tokens.length === 0) return requirements;
  for (;;) {
    requirements.push(readRequirement());
    if (at >= tokens.length) return requirements;
    if (tokens[at++] !== ',') fail('requirements are separated by commas');
  }
}
