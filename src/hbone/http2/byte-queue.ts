// Bytes that wait, in order, in blocks that are used again: a million one-byte frames cost a megabyte here, not two
// hundred, and a large piece does not pin the buffer it came in.

import { BufferPool } from '../buffer-pool.ts';

const BLOCK_BYTES = 16 * 1024;
/** A megabyte of them. */
const MAX_FREE_BLOCKS = 64;
const { copy } = Buffer.prototype;

export function newBlockPool(): BufferPool {
  return new BufferPool(BLOCK_BYTES, MAX_FREE_BLOCKS);
}

export class ByteQueue {
  readonly #pool: BufferPool;
  readonly #blocks: Buffer[] = [];
  /** Where the first block's bytes begin, and where the last one's end. */
  #start = 0;
  #end = 0;
  #bytes = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Copies. */
  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    for (let at = 0; at < chunk.length; ) {
      if (this.#blocks.length === 0 || this.#end === this.#pool.bufferBytes) {
        this.#blocks.push(this.#pool.take());
        this.#end = 0;
      }
      const length = Math.min(chunk.length - at, this.#pool.bufferBytes - this.#end);
      copy.call(chunk, this.#blocks.at(-1)!, this.#end, at, at + length);
      this.#end += length;
      at += length;
    }
  }

  /** The first bytes, valid until the next call; undefined when nothing waits. */
  shift(): Buffer | undefined {
    if (this.#start === this.#endOfFirst) this.#dropFirst();
    const first = this.#blocks[0];
    if (first === undefined) return undefined;
    const chunk = first.subarray(this.#start, this.#endOfFirst);
    this.#start += chunk.length;
    this.#bytes -= chunk.length;
    return chunk;
  }

  /** So many of the bytes that `shift` gave last are not taken after all. */
  putBack(bytes: number): void {
    this.#start -= bytes;
    this.#bytes += bytes;
  }

  clear(): void {
    while (this.#blocks.length > 0) this.#dropFirst();
    this.#bytes = 0;
  }

  get #endOfFirst(): number {
    return this.#blocks.length > 1 ? this.#pool.bufferBytes : this.#end;
  }

  #dropFirst(): void {
    const first = this.#blocks.shift();
    if (first !== undefined) this.#pool.giveBack(first);
    this.#start = 0;
    if (this.#blocks.length === 0) this.#end = 0;
  }
}
