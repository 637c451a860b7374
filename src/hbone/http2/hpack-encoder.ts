// Header lists to header blocks (RFC 7541 §6). What repeats on a session (method, authority, baggage) goes into the
// dynamic table and costs a byte from then on; what is new each time (forwarded, traceparent) stays out of it.

import { DEFAULT_TABLE_BYTES, DynamicTable, entryBytes, STATIC, STATIC_ENTRIES } from './hpack-table.ts';
import { encodeHuffman, huffmanLength } from './huffman.ts';

const NEVER_TWICE: ReadonlySet<string> = new Set(['forwarded', 'traceparent']);

/** Name → value → index. Not by name and value in one: what is new each time would be joined and searched for nothing. */
type Pairs = Map<string, Map<string, number>>;

const STATIC_PAIRS: Pairs = new Map();
const STATIC_NAMES = new Map<string, number>();
for (let index = STATIC_ENTRIES; index > 0; index--) {
  STATIC_NAMES.set(STATIC[2 * index - 2]!, index);
  setPair(STATIC_PAIRS, STATIC[2 * index - 2]!, STATIC[2 * index - 1]!, index);
}

function setPair(pairs: Pairs, name: string, value: string, index: number): void {
  const values = pairs.get(name);
  if (values === undefined) pairs.set(name, new Map([[value, index]]));
  else values.set(value, index);
}

export class HpackEncoder {
  /** Pairs of the dynamic table → the number of their newest entry. */
  readonly #numbers: Pairs = new Map();
  readonly #table = new DynamicTable((name, value, number) => {
    const values = this.#numbers.get(name);
    if (values?.get(value) === number) values.delete(value);
    if (values?.size === 0) this.#numbers.delete(name);
  });
  /** Smallest limit since the last block, and the present one: both must be told (RFC 7541 §4.2). */
  #announce: { smallest: number; last: number } | undefined;

  /** The peer's HEADER_TABLE_SIZE; more than the default is not used. */
  limitTable(bytes: number): void {
    const limit = Math.min(bytes, DEFAULT_TABLE_BYTES);
    if (limit === (this.#announce?.last ?? this.#table.limitBytes)) return;
    this.#announce = { smallest: Math.min(limit, this.#announce?.smallest ?? limit), last: limit };
    this.#table.resize(Math.min(limit, this.#table.limitBytes));
  }

  /** `headers`: name, value, name, value …; latin-1 texts, names in lower case. */
  encode(headers: readonly string[]): Buffer {
    let bound = 16;
    // No text takes more than its own length: Huffman is used where it is shorter.
    for (const text of headers) bound += text.length + 12;
    const block = Buffer.allocUnsafe(bound);
    let at = this.#announceTable(block, 0);
    for (let each = 0; each < headers.length; each += 2)
      at = this.#header(headers[each]!, headers[each + 1]!, block, at);
    return block.subarray(0, at);
  }

  #announceTable(block: Buffer, at: number): number {
    const announce = this.#announce;
    if (announce === undefined) return at;
    this.#announce = undefined;
    let next = at;
    if (announce.smallest < announce.last) next = integer(0x20, 5, announce.smallest, block, next);
    this.#table.resize(announce.last);
    return integer(0x20, 5, announce.last, block, next);
  }

  #header(name: string, value: string, block: Buffer, at: number): number {
    const isNew = NEVER_TWICE.has(name);
    if (!isNew) {
      const fixed = STATIC_PAIRS.get(name)?.get(value);
      if (fixed !== undefined) return integer(0x80, 7, fixed, block, at);
      const number = this.#numbers.get(name)?.get(value);
      if (number !== undefined) return integer(0x80, 7, this.#table.indexOf(number), block, at);
    }
    const nameIndex = STATIC_NAMES.get(name) ?? 0;
    const isKept = !isNew && entryBytes(name, value) <= this.#table.limitBytes / 2;
    let next = isKept ? integer(0x40, 6, nameIndex, block, at) : integer(0, 4, nameIndex, block, at);
    if (nameIndex === 0) next = string(name, block, next);
    next = string(value, block, next);
    if (isKept) setPair(this.#numbers, name, value, this.#table.add(name, value)!);
    return next;
  }
}

/** RFC 7541 §5.1. */
function integer(flags: number, prefixBits: number, value: number, block: Buffer, at: number): number {
  const mask = (1 << prefixBits) - 1;
  let next = at;
  if (value < mask) {
    block[next++] = flags | value;
    return next;
  }
  block[next++] = flags | mask;
  let rest = value - mask;
  for (; rest >= 0x80; rest >>>= 7) block[next++] = (rest & 0x7f) | 0x80;
  block[next++] = rest;
  return next;
}

/** RFC 7541 §5.2: Huffman where it is shorter. */
function string(text: string, block: Buffer, at: number): number {
  const huffman = huffmanLength(text);
  if (huffman < text.length) return encodeHuffman(text, block, integer(0x80, 7, huffman, block, at));
  const start = integer(0, 7, text.length, block, at);
  return start + block.write(text, start, 'latin1');
}
