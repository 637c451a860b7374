// Reading one mapping of the static state file, key by key: every key must be known, every value of its kind, and what is
// wrong is said with its line. Over the YAML library's syntax tree, because plain objects have no lines.

import { type Document, isAlias, isMap, isScalar, isSeq, type LineCounter, type Node } from 'yaml';
import { MeshError } from '#base/errors.ts';
import { type Cidr, parseCidr } from '#net/cidr.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';

export interface SourceText {
  /** How messages name the file. */
  readonly name: string;
  readonly lines: LineCounter;
  readonly document: Document;
}

/** A value with its place. `what` names it for a reader: `workload "a"`, `"protocol" of workload "a"`. */
export interface Value {
  readonly source: SourceText;
  readonly node: Node | null | undefined;
  readonly what: string;
}

export function lineOf({ source, node }: Value): number {
  return source.lines.linePos(node?.range?.[0] ?? 0).line;
}

export function wrong(value: Value, expected: string): MeshError {
  const { name } = value.source;
  return new MeshError(
    'CONFIG_INVALID',
    `${name}, line ${lineOf(value)}: ${value.what}: expected ${expected}`,
    {
      details: { line: lineOf(value) },
    },
  );
}

export function value(source: SourceText, node: unknown, what: string): Value {
  // `*name` stands for what `&name` marked.
  const resolved = isAlias(node) ? node.resolve(source.document) : node;
  return { source, node: resolved as Node | null | undefined, what };
}

const isAbsent = ({ node }: Value): boolean => node == null || (isScalar(node) && node.value === null);

export function entriesOf(
  map: Value,
): readonly { readonly key: string; readonly at: Value; readonly value: Value }[] {
  const { source, node, what } = map;
  if (!isMap(node)) throw wrong(map, 'a mapping');
  return node.items.map((pair) => {
    const at = value(source, pair.key, what);
    if (!isScalar(at.node)) throw wrong(at, 'keys that are plain text');
    const key = String(at.node.value);
    return { key, at, value: value(source, pair.value, `"${key}" of ${what}`) };
  });
}

export function list<T>(of: Value, read: (element: Value, index: number) => T): T[] {
  const { source, node, what } = of;
  if (!isSeq(node)) throw wrong(of, 'a list');
  return node.items.map((item, index) => read(value(source, item, `${what}[${index}]`), index));
}

export function text(of: Value): string {
  if (isScalar(of.node) && typeof of.node.value === 'string') return of.node.value;
  throw wrong(of, 'text (in quotes, if it looks like a number or a boolean)');
}

export function boolean(of: Value): boolean {
  if (isScalar(of.node) && typeof of.node.value === 'boolean') return of.node.value;
  throw wrong(of, 'true or false');
}

export function integer(of: Value, greatest: number): number {
  const number = isScalar(of.node) ? of.node.value : undefined;
  if (typeof number === 'number' && Number.isInteger(number) && number >= 0 && number <= greatest)
    return number;
  throw wrong(of, `a whole number from 0 to ${greatest}`);
}

export const port = (of: Value): number => integer(of, 65_535);

export function ipAddress(of: Value): IpAddress {
  const parsed = parseIp(text(of));
  if (parsed === undefined) throw wrong(of, 'an IP address');
  return parsed;
}

export function cidr(of: Value): Cidr {
  const parsed = parseCidr(text(of));
  if (parsed === undefined) throw wrong(of, 'an address range such as "10.0.0.0/8"');
  return parsed;
}

export function oneOf<const T extends string>(allowed: readonly T[]): (of: Value) => T {
  return (of) => {
    const given = isScalar(of.node) ? of.node.value : undefined;
    const found = allowed.find((one) => one === given);
    if (found === undefined) throw wrong(of, allowed.join(' or '));
    return found;
  };
}

/** Service port → target port. JSON has only text for keys. */
export function portMap(of: Value): ReadonlyMap<number, number> {
  return new Map(
    entriesOf(of).map(({ key, at, value: target }) => {
      const servicePort = /^\d{1,5}$/.test(key) ? Number(key) : -1;
      if (servicePort < 0 || servicePort > 65_535) throw wrong(at, 'port numbers as keys');
      return [servicePort, port(target)];
    }),
  );
}

/** A mapping of which every key is read or refused; `null` counts as absent. */
export class Fields {
  readonly self: Value;
  readonly #known: readonly string[];
  readonly #values = new Map<string, Value>();

  constructor(self: Value, known: readonly string[]) {
    this.self = self;
    this.#known = known;
    for (const { key, at, value: given } of entriesOf(self)) {
      if (!known.includes(key))
        throw wrong({ ...at, what: `unknown key "${key}" in ${self.what}` }, `one of ${known.join(', ')}`);
      if (!isAbsent(given)) this.#values.set(key, given);
    }
  }

  required<T>(key: string, read: (value: Value) => T): T {
    const given = this.#given(key);
    if (given === undefined) throw wrong(this.self, `the key "${key}"`);
    return read(given);
  }

  optional<T, F>(key: string, read: (value: Value) => T, fallback: F): T | F {
    const given = this.#given(key);
    return given === undefined ? fallback : read(given);
  }

  #given(key: string): Value | undefined {
    if (!this.#known.includes(key)) throw new TypeError(`${key} is not among the known keys`);
    return this.#values.get(key);
  }
}
