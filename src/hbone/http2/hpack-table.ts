// The tables of HPACK: the static one (RFC 7541 appendix A) and one direction's dynamic one (§2.3, §4).

/** Name, value, name, value … of indices 1 to 61. */
// biome-ignore format: one pair a line
export const STATIC: readonly string[] = [
  ':authority', '',
  ':method', 'GET',
  ':method', 'POST',
  ':path', '/',
  ':path', '/index.html',
  ':scheme', 'http',
  ':scheme', 'https',
  ':status', '200',
  ':status', '204',
  ':status', '206',
  ':status', '304',
  ':status', '400',
  ':status', '404',
  ':status', '500',
  'accept-charset', '',
  'accept-encoding', 'gzip, deflate',
  'accept-language', '',
  'accept-ranges', '',
  'accept', '',
  'access-control-allow-origin', '',
  'age', '',
  'allow', '',
  'authorization', '',
  'cache-control', '',
  'content-disposition', '',
  'content-encoding', '',
  'content-language', '',
  'content-length', '',
  'content-location', '',
  'content-range', '',
  'content-type', '',
  'cookie', '',
  'date', '',
  'etag', '',
  'expect', '',
  'expires', '',
  'from', '',
  'host', '',
  'if-match', '',
  'if-modified-since', '',
  'if-none-match', '',
  'if-range', '',
  'if-unmodified-since', '',
  'last-modified', '',
  'link', '',
  'location', '',
  'max-forwards', '',
  'proxy-authenticate', '',
  'proxy-authorization', '',
  'range', '',
  'referer', '',
  'refresh', '',
  'retry-after', '',
  'server', '',
  'set-cookie', '',
  'strict-transport-security', '',
  'transfer-encoding', '',
  'user-agent', '',
  'vary', '',
  'via', '',
  'www-authenticate', '',
];
export const STATIC_ENTRIES = STATIC.length / 2;

/** Both ends begin with it (RFC 9113 §6.5.2). */
export const DEFAULT_TABLE_BYTES = 4096;
/** What an entry costs beside its name and value (RFC 7541 §4.1). */
const ENTRY_OVERHEAD_BYTES = 32;

export const entryBytes = (name: string, value: string): number =>
  name.length + value.length + ENTRY_OVERHEAD_BYTES;

/** Entries in the order of their insertion; the newest has index 62. */
export class DynamicTable {
  #entries: { readonly name: string; readonly value: string }[] = [];
  /** Entries evicted so far: an entry's number, counted from the first insertion, never changes. */
  #evicted = 0;
  #bytes = 0;
  #limitBytes = DEFAULT_TABLE_BYTES;
  readonly #onEvict: ((name: string, value: string, number: number) => void) | undefined;

  constructor(onEvict?: (name: string, value: string, number: number) => void) {
    this.#onEvict = onEvict;
  }

  get length(): number {
    return this.#entries.length;
  }

  get limitBytes(): number {
    return this.#limitBytes;
  }

  /** `index` counts from 62. Undefined beyond the end. */
  at(index: number): { readonly name: string; readonly value: string } | undefined {
    return this.#entries[this.#entries.length - 1 - (index - STATIC_ENTRIES - 1)];
  }

  /** The present index of the entry with this number. */
  indexOf(number: number): number {
    return STATIC_ENTRIES + this.#evicted + this.#entries.length - number;
  }

  /** Adds in front and returns the entry's number; one larger than the table empties it and is not kept (undefined). */
  add(name: string, value: string): number | undefined {
    const bytes = entryBytes(name, value);
    this.#evictDownTo(this.#limitBytes - bytes);
    if (bytes > this.#limitBytes) return undefined;
    this.#entries.push({ name, value });
    this.#bytes += bytes;
    return this.#evicted + this.#entries.length - 1;
  }

  resize(limitBytes: number): void {
    this.#limitBytes = limitBytes;
    this.#evictDownTo(limitBytes);
  }

  #evictDownTo(bytes: number): void {
    let count = 0;
    while (count < this.#entries.length && this.#bytes > bytes) {
      const { name, value } = this.#entries[count]!;
      this.#bytes -= entryBytes(name, value);
      this.#onEvict?.(name, value, this.#evicted + count);
      count += 1;
    }
    if (count === 0) return;
    this.#entries.splice(0, count);
    this.#evicted += count;
  }
}
