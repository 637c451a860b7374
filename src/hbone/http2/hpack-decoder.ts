// Header blocks to header lists (RFC 7541 §6). Whether the list makes sense as a request is header-rules.ts's matter.

import { COMPRESSION_ERROR, SessionError } from './errors.ts';
import { DEFAULT_TABLE_BYTES, DynamicTable, entryBytes, STATIC, STATIC_ENTRIES } from './hpack-table.ts';
import { decodeHuffman } from './huffman.ts';

/** More pairs than this are refused with their stream; the longest honest list here has seven. */
export const MAX_HEADER_PAIRS = 128;

const EMPTY = Buffer.alloc(0);

export class HpackDecoder {
  readonly #table = new DynamicTable();
  readonly #maxListBytes: number;
  #block: Buffer = EMPTY;
  #at = 0;

  /** `maxListBytes` as advertised in MAX_HEADER_LIST_SIZE: the sum of names, values and 32 for each pair. */
  constructor(maxListBytes: number) {
    this.#maxListBytes = maxListBytes;
  }

  /**
   * Name, value, name, value … of one block; undefined when the list is longer than we said we take (the tables are kept
   * in step all the same). Throws SessionError with COMPRESSION_ERROR.
   */
  decode(block: Buffer): string[] | undefined {
    this.#block = block;
    this.#at = 0;
    const list: string[] = [];
    let listBytes = 0;
    let isTooLong = false;
    const keep = (name: string, value: string): void => {
      listBytes += entryBytes(name, value);
      if (listBytes > this.#maxListBytes || list.length >= 2 * MAX_HEADER_PAIRS) isTooLong = true;
      else list.push(name, value);
    };
    let mayResize = true;
    while (this.#at < block.length) {
      const first = block[this.#at]!;
      if ((first & 0x80) !== 0) {
        const index = this.#integer(7);
        keep(this.#nameAt(index), this.#valueAt(index));
      } else if ((first & 0xe0) === 0x20) {
        if (!mayResize) throw broken('a table size change behind the first header');
        const size = this.#integer(5);
        if (size > DEFAULT_TABLE_BYTES) throw broken(`a table of ${size} bytes, more than we allow`);
        this.#table.resize(size);
        continue;
      } else {
        const isIndexed = (first & 0x40) !== 0;
        const index = this.#integer(isIndexed ? 6 : 4);
        const name = index === 0 ? this.#text() : this.#nameAt(index);
        const value = this.#text();
        if (isIndexed) this.#table.add(name, value);
        keep(name, value);
      }
      mayResize = false;
    }
    this.#block = EMPTY;
    return isTooLong ? undefined : list;
  }

  #nameAt(index: number): string {
    if (index > 0 && index <= STATIC_ENTRIES) return STATIC[2 * index - 2]!;
    const entry = index === 0 ? undefined : this.#table.at(index);
    if (entry === undefined) throw broken(`index ${index} stands for nothing`);
    return entry.name;
  }

  #valueAt(index: number): string {
    return index <= STATIC_ENTRIES ? STATIC[2 * index - 1]! : this.#table.at(index)!.value;
  }

  /** RFC 7541 §5.1. */
  #integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = this.#byte() & mask;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw broken('an integer beyond all limits');
  }

  /** RFC 7541 §5.2. */
  #text(): string {
    const isHuffman = this.#at < this.#block.length && (this.#block[this.#at]! & 0x80) !== 0;
    const length = this.#integer(7);
    const start = this.#at;
    const end = start + length;
    if (end > this.#block.length) throw broken('a string that ends behind the block');
    this.#at = end;
    if (!isHuffman) return this.#block.toString('latin1', start, end);
    const text = decodeHuffman(this.#block, start, end);
    if (text === undefined) throw broken('a string that is no Huffman code');
    return text;
  }

  #byte(): number {
    const byte = this.#block[this.#at++];
    if (byte === undefined) throw broken('a block that ends in the middle');
    return byte;
  }
}

function broken(what: string): SessionError {
  return new SessionError(COMPRESSION_ERROR, `the peer's header block has ${what}`);
}
