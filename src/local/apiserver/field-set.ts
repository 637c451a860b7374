// Sets of fields as managedFields writes them (FieldsV1), and the algebra of such sets. A set is a trie: `f:name` is a
// field, `k:{"port":80}` an item of a keyed list, `v:"x"` a value of a set. An empty node is a field of the set; a
// node with others below is a field of the set itself only where it holds `.`.
//
// Keys always carry their prefix, so no name of a field can reach a prototype.

import { isObject } from './object.ts';

export interface FieldSet {
  readonly [element: string]: FieldSet;
}

/** Under construction: made by `addPath`, read as a FieldSet. */
export interface FieldSetDraft {
  [element: string]: FieldSetDraft;
}

export const SELF = '.';
export const EMPTY_SET: FieldSet = Object.freeze({});

export const isEmptySet = (set: FieldSet): boolean => {
  for (const _ in set) return false;
  return true;
};

/** Whether the node stands for a field of the set, besides leading to others. */
const isMember = (node: FieldSet): boolean => node[SELF] !== undefined || isEmptySet(node);

function nodeOf(member: boolean, below: FieldSet): FieldSet | undefined {
  if (isEmptySet(below)) return member ? EMPTY_SET : undefined;
  return member ? { [SELF]: EMPTY_SET, ...below } : below;
}

/** Adds one field; `path` is a stack of elements of which the first `length` count. */
export function addPath(set: FieldSetDraft, path: readonly string[], length = path.length): void {
  if (length === 0) return;
  let node = set;
  for (let index = 0; index < length - 1; index++) {
    const element = path[index]!;
    const next = node[element];
    if (next === undefined) {
      const made: FieldSetDraft = {};
      node[element] = made;
      node = made;
    } else {
      if (isEmptySet(next)) next[SELF] = {};
      node = next;
    }
  }
  const last = path[length - 1]!;
  const present = node[last];
  if (present === undefined) node[last] = {};
  else if (!isEmptySet(present)) present[SELF] = {};
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  const result: Record<string, FieldSet> = {};
  for (const element in a) if (element !== SELF) result[element] = a[element]!;
  for (const element in b) {
    if (element === SELF) continue;
    const theirs = b[element]!;
    const mine = result[element];
    result[element] =
      mine === undefined
        ? theirs
        : (nodeOf(isMember(mine) || isMember(theirs), union(mine, theirs)) ?? EMPTY_SET);
  }
  return result;
}

/** What is in the first and not in the second; a field stays though the one above it goes. */
export function difference(a: FieldSet, b: FieldSet): FieldSet {
  if (isEmptySet(b) && a[SELF] === undefined) return a;
  const result: Record<string, FieldSet> = {};
  for (const element in a) {
    if (element === SELF) continue;
    const mine = a[element]!;
    const theirs = b[element];
    const left =
      theirs === undefined ? mine : nodeOf(isMember(mine) && !isMember(theirs), difference(mine, theirs));
    if (left !== undefined) result[element] = left;
  }
  return result;
}

export function intersection(a: FieldSet, b: FieldSet): FieldSet {
  const result: Record<string, FieldSet> = {};
  for (const element in a) {
    const theirs = b[element];
    if (element === SELF || theirs === undefined) continue;
    const mine = a[element]!;
    const both = nodeOf(isMember(mine) && isMember(theirs), intersection(mine, theirs));
    if (both !== undefined) result[element] = both;
  }
  return result;
}

/** Whether the element itself is in the set, not only something below it. */
export function hasElement(set: FieldSet, element: string): boolean {
  const node = set[element];
  return node !== undefined && isMember(node);
}

/** What stands below an element, the element itself left out. */
export function below(set: FieldSet, element: string): FieldSet {
  const node = set[element];
  if (node === undefined) return EMPTY_SET;
  if (node[SELF] === undefined) return node;
  const { [SELF]: _, ...rest } = node;
  return rest;
}

/** Of a client's making: checked and made canonical; undefined when it is no field set. */
export function fieldSetFrom(value: unknown): FieldSet | undefined {
  const root = nodeFrom(value);
  if (root === undefined) return undefined;
  const { [SELF]: _, ...set } = root;
  return set;
}

function nodeFrom(value: unknown): FieldSet | undefined {
  if (value === null) return EMPTY_SET;
  if (!isObject(value)) return undefined;
  const result: Record<string, FieldSet> = {};
  for (const [key, child] of Object.entries(value)) {
    if (key === SELF) {
      result[SELF] = EMPTY_SET;
      continue;
    }
    if (key.charAt(1) !== ':') return undefined;
    const element = canonicalElement(key);
    if (element === undefined) return undefined;
    // Elements of a kind not known here are passed over, as other servers do.
    if (element === '') continue;
    const node = nodeFrom(child);
    if (node === undefined) return undefined;
    result[element] = node;
  }
  // `.` alone says no more than an empty node.
  return Object.keys(result).length === 1 && result[SELF] !== undefined ? EMPTY_SET : result;
}

function canonicalElement(key: string): string | undefined {
  const rest = key.slice(2);
  switch (key.charAt(0)) {
    case 'f':
      return key;
    case 'i':
      return /^-?\d+$/.test(rest) ? key : undefined;
    case 'v':
    case 'k':
      try {
        const value: unknown = JSON.parse(rest);
        if (key.startsWith('v')) return valueElement(value);
        return isObject(value) ? keyElement(value) : undefined;
      } catch {
        return undefined;
      }
    default:
      return '';
  }
}

export const fieldElement = (name: string): string => `f:${name}`;
export const valueElement = (value: unknown): string => `v:${JSON.stringify(value)}`;

/** Two items are one when their keys are equal, in whatever order they are written. */
export function keyElement(keys: Readonly<Record<string, unknown>>): string {
  const sorted: Record<string, unknown> = {};
  for (const name of Object.keys(keys).sort()) sorted[name] = keys[name];
  return `k:${JSON.stringify(sorted)}`;
}
