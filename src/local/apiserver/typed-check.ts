// What an applied configuration must be before it can have owners: known fields, values of the right form, items that
// can be told apart. Ranges, patterns and the like are the business of validation, after the merge.

import { elementText } from './field-path.ts';
import type { ListType, MapType, MergeType } from './merge-type.ts';
import { isObject, type JsonObject } from './object.ts';

/** One sentence per finding, each beginning with its path. */
export function checkTyped(type: MergeType, value: unknown): string[] {
  const problems: string[] = [];
  check(type, value, '', problems);
  return problems;
}

function check(type: MergeType, value: unknown, path: string, problems: string[]): void {
  if (value === null || value === undefined) return;
  if (Array.isArray(value)) {
    if (type.list === undefined) problems.push(`${path}: ${wanted(type)}, got ${shown(value)}`);
    else checkList(type.list, value, path, problems);
  } else if (isObject(value)) {
    if (type.map === undefined) problems.push(`${path}: ${wanted(type)}, got ${shown(value)}`);
    else checkMap(type.map, value, path, problems);
  } else if (type.scalar !== 'any' && type.scalar !== typeof value)
    problems.push(`${path}: ${wanted(type)}, got ${type.scalar === 'number' ? goType(value) : shown(value)}`);
}

function wanted(type: MergeType): string {
  if (type.map !== undefined) return 'expected map';
  if (type.list !== undefined) return 'expected list';
  if (type.scalar === 'number') return 'expected numeric (int or float)';
  return type.scalar === 'any' ? 'expected any scalar' : `expected ${String(type.scalar)}`;
}

const goType = (value: unknown): string => (typeof value === 'boolean' ? 'bool' : typeof value);

function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function checkMap(type: MapType, value: JsonObject, path: string, problems: string[]): void {
  for (const [name, child] of Object.entries(value)) {
    const childType = type.child(name);
    if (childType === undefined) problems.push(`${path}.${name}: field not declared in schema`);
    else check(childType, child, `${path}.${name}`, problems);
  }
}

function checkList(type: ListType, value: readonly unknown[], path: string, problems: string[]): void {
  const seen = new Set<string>();
  for (const [index, item] of value.entries()) {
    if (type.rule === 'atomic') {
      check(type.items(), item, `${path}[${index}]`, problems);
      continue;
    }
    const identity = type.identify(item);
    if (!('element' in identity)) {
      problems.push(`${path}: element ${index}: ${identity.problem}`);
      return;
    }
    const text = elementText(identity.element);
    if (seen.has(identity.element)) problems.push(`${path}: duplicate entries for key ${text}`);
    seen.add(identity.element);
    check(type.items(), item, path + text, problems);
  }
}
