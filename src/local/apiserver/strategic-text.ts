// Patches without their directives, and values as Kubernetes' messages about patches print them.

import { isObject, type JsonObject } from './object.ts';

export const PATCH = '$patch';

/** What a patch puts where nothing was: directives and nulls say nothing there. */
export function plain(value: unknown): unknown {
  if (Array.isArray(value))
    return value.filter((item) => !(isObject(item) && Object.hasOwn(item, PATCH))).map(plain);
  if (!isObject(value)) return value;
  const kept: JsonObject = {};
  for (const [key, each] of Object.entries(value)) {
    const isDirective = /^\$(retainKeys$|setElementOrder\/|deleteFromPrimitiveList\/)/.test(key);
    if (isDirective || each === null || (isObject(each) && Object.hasOwn(each, PATCH))) continue;
    kept[key] = plain(each);
  }
  return kept;
}

/** `map[a:1 b:[x y]]`: the way these messages have looked for years, and are searched for. */
export function goText(value: unknown): string {
  if (value === null || value === undefined) return '<nil>';
  if (Array.isArray(value)) return `[${value.map(goText).join(' ')}]`;
  if (!isObject(value)) return String(value);
  const fields = Object.keys(value)
    .sort()
    .map((key) => `${key}:${goText(value[key])}`);
  return `map[${fields.join(' ')}]`;
}
