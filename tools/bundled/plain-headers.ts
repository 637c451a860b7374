// `Headers` for the control plane's bundle. Node loads the whole of fetch, 4 MB in the process, with the first use of its own;
// all that Connect wants of it is a map of names in any case (docs/decisions/0004-node-memory.md). The bundler puts this class
// where code says `Headers`. Cookies of responses, which the Fetch standard keeps apart, are joined as other values are.

type Pairs = Iterable<readonly [string, string]>;
export type HeadersFrom = Pairs | Readonly<Record<string, string>> | undefined;

/** RFC 9110 §5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** What a field value may not hold: ends of lines, NUL, and characters beyond one byte. */
const FORBIDDEN = /[\0\r\n]|[^\0-\xff]/;
const SPACE_AROUND = /^[\t\n\r ]+|[\t\n\r ]+$/g;

class PlainHeaders {
  readonly #values = new Map<string, string>();

  constructor(from: HeadersFrom = undefined) {
    if (from === undefined) return;
    const pairs = Symbol.iterator in from ? (from as Pairs) : Object.entries(from);
    for (const [name, value] of pairs) this.append(name, value);
  }

  append(name: string, value: string): void {
    const key = nameOf(name);
    const before = this.#values.get(key);
    const added = cleanValue(key, value);
    this.#values.set(key, before === undefined ? added : `${before}, ${added}`);
  }

  set(name: string, value: string): void {
    const key = nameOf(name);
    this.#values.set(key, cleanValue(key, value));
  }

  get(name: string): string | null {
    return this.#values.get(nameOf(name)) ?? null;
  }

  has(name: string): boolean {
    return this.#values.has(nameOf(name));
  }

  delete(name: string): void {
    this.#values.delete(nameOf(name));
  }

  forEach(each: (value: string, name: string, all: this) => void): void {
    for (const [name, value] of this) each(value, name, this);
  }

  *entries(): Generator<[string, string]> {
    yield* [...this.#values].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  *keys(): Generator<string> {
    for (const [name] of this) yield name;
  }

  *values(): Generator<string> {
    for (const [, value] of this) yield value;
  }

  [Symbol.iterator](): Generator<[string, string]> {
    return this.entries();
  }
}

function nameOf(name: string): string {
  if (!TOKEN.test(name)) throw new TypeError(`${JSON.stringify(name)} is no name of a header`);
  return name.toLowerCase();
}

function cleanValue(name: string, value: string): string {
  const text = `${value}`.replace(SPACE_AROUND, '');
  if (FORBIDDEN.test(text))
    throw new TypeError(`the value of the header ${name} has characters that none may have`);
  return text;
}

export { PlainHeaders as Headers };
