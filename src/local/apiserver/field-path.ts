// How a field of a set is written in sentences: `.spec.ports[port=80,protocol="TCP"].name`.

import { type FieldSet, isEmptySet, SELF } from './field-set.ts';

type Element =
  | { readonly form: 'field'; readonly name: string }
  | { readonly form: 'key'; readonly keys: readonly (readonly [string, unknown])[] }
  | { readonly form: 'value'; readonly value: unknown };

function parse(element: string): Element {
  const rest = element.slice(2);
  switch (element.charAt(0)) {
    case 'k':
      return { form: 'key', keys: Object.entries(JSON.parse(rest) as Record<string, unknown>) };
    case 'v':
      return { form: 'value', value: JSON.parse(rest) };
    default:
      return { form: 'field', name: rest };
  }
}

export function elementText(element: string): string {
  const parsed = parse(element);
  switch (parsed.form) {
    case 'field':
      return `.${parsed.name}`;
    case 'key':
      return `[${parsed.keys.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(',')}]`;
    case 'value':
      return `[=${JSON.stringify(parsed.value)}]`;
  }
}

/** Every field of the set, in the order of Kubernetes: at each level the fields themselves before what is below. */
export function pathTexts(set: FieldSet, prefix = ''): string[] {
  const elements = Object.keys(set)
    .filter((element) => element !== SELF)
    .sort(compareElements);
  const isField = (element: string): boolean =>
    isEmptySet(set[element]!) || set[element]![SELF] !== undefined;
  return [
    ...elements.filter(isField).map((element) => prefix + elementText(element)),
    ...elements.flatMap((element) => pathTexts(set[element]!, prefix + elementText(element))),
  ];
}

const FORMS: readonly Element['form'][] = ['field', 'key', 'value'];

export function compareElements(left: string, right: string): number {
  const a = parse(left);
  const b = parse(right);
  if (a.form === 'field' && b.form === 'field') return compareText(a.name, b.name);
  if (a.form === 'value' && b.form === 'value') return compareValues(a.value, b.value);
  if (a.form !== 'key' || b.form !== 'key') return FORMS.indexOf(a.form) - FORMS.indexOf(b.form);
  for (let index = 0; index < Math.min(a.keys.length, b.keys.length); index++) {
    const [name, value] = a.keys[index]!;
    const [otherName, otherValue] = b.keys[index]!;
    const order = compareText(name, otherName) || compareValues(value, otherValue);
    if (order !== 0) return order;
  }
  return a.keys.length - b.keys.length;
}

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Numbers stand before texts, texts before the rest. */
function compareValues(a: unknown, b: unknown): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (typeof a === 'string' && typeof b === 'string') return compareText(a, b);
  const rank = (value: unknown): number =>
    typeof value === 'number' ? 0 : typeof value === 'string' ? 1 : typeof value === 'boolean' ? 2 : 3;
  return rank(a) - rank(b) || compareText(JSON.stringify(a), JSON.stringify(b));
}
