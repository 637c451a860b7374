// The small part of JSONPath that CRDs use for columns and scale: `.spec.a`, `['a']`, `[0]`, `[*]`, `[?(@.type=="x")]`.

import { equal, field, isObject, type JsonObject } from './object.ts';

type Step =
  | { readonly kind: 'field'; readonly name: string }
  | { readonly kind: 'index'; readonly index: number }
  | { readonly kind: 'all' }
  | { readonly kind: 'filter'; readonly path: readonly string[]; readonly value: unknown };

export type JsonPath = readonly Step[];

const STEP =
  /^(?:\.([A-Za-z0-9_/-]+(?:\\\.[A-Za-z0-9_/-]+)*)|\[(\d+)\]|\[\*\]|\.\*|\['([^']+)'\]|\["([^"]+)"\]|\[\?\(@((?:\.[A-Za-z0-9_-]+)+)\s*==\s*(?:"([^"]*)"|'([^']*)'|(true|false|\d+))\)\])/;

/** Undefined when the text is not of the supported form. */
export function parseJsonPath(text: string): JsonPath | undefined {
  if (text.includes('__proto__')) return undefined;
  const steps: Step[] = [];
  let rest = text.trim().replace(/^\{(.*)\}$/s, '$1');
  while (rest !== '') {
    const match = STEP.exec(rest);
    if (match === null) return undefined;
    const [whole, name, index, quoted, doubleQuoted, filter, text1, text2, literal] = match;
    const key = name?.replaceAll('\\.', '.') ?? quoted ?? doubleQuoted;
    if (key !== undefined) steps.push({ kind: 'field', name: key });
    else if (index !== undefined) steps.push({ kind: 'index', index: Number(index) });
    else if (filter !== undefined)
      steps.push({
        kind: 'filter',
        path: filter.slice(1).split('.'),
        value: text1 ?? text2 ?? (JSON.parse(literal as string) as unknown),
      });
    else steps.push({ kind: 'all' });
    rest = rest.slice(whole.length);
  }
  return steps;
}

export function evaluateJsonPath(path: JsonPath, root: unknown): unknown[] {
  let found: unknown[] = [root];
  for (const step of path) found = found.flatMap((value) => advance(step, value));
  return found;
}

function advance(step: Step, value: unknown): unknown[] {
  switch (step.kind) {
    case 'field':
      return isObject(value) && Object.hasOwn(value, step.name) ? [value[step.name]] : [];
    case 'index':
      return Array.isArray(value) && step.index < value.length ? [value[step.index]] : [];
    case 'all':
      return Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [];
    case 'filter':
      if (!Array.isArray(value)) return [];
      return value.filter((item) => {
        let at: unknown = item;
        for (const name of step.path) at = isObject(at) && Object.hasOwn(at, name) ? at[name] : undefined;
        return equal(at, step.value);
      });
  }
}

/** Sets a value at a path of plain fields, making objects on the way. */
export function setAtJsonPath(path: JsonPath, root: JsonObject, value: unknown): void {
  let at = root;
  path.forEach((step, index) => {
    if (step.kind !== 'field') throw new TypeError('only plain fields can be set');
    if (index === path.length - 1) at[step.name] = value;
    else {
      const child = field(at, step.name);
      const next: JsonObject = isObject(child) ? child : {};
      at[step.name] = next;
      at = next;
    }
  });
}
