// Bytes that wait, in order. Small pieces are gathered into blocks: a million one-byte frames cost a megabyte here, not
// two hundred.

const BLOCK_BYTES = 16 * 1024;
/** A piece smaller than this is copied, also so that it does not pin the buffer it came in. */
const COPY_BELOW_BYTES = 4 * 1024;

export class ByteQueue {
  #chunks: Buffer[] = [];
  #first = 0;
  /** The last chunk when it is a block of ours with room left, and how much of it is used. */
  #block: Buffer | undefined;
  #blockUsed = 0;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** `isBorrowed`: the chunk changes after the call. */
  push(chunk: Uint8Array, isBorrowed: boolean): void {
    this.#bytes += chunk.length;
    if (chunk.length < COPY_BELOW_BYTES) {
      let at = 0;
      while (at < chunk.length) {
        if (this.#block === undefined) {
          this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
          this.#blockUsed = 0;
          this.#chunks.push(this.#block);
        }
        const length = Math.min(chunk.length - at, BLOCK_BYTES - this.#blockUsed);
        this.#block.set(chunk.subarray(at, at + length), this.#blockUsed);
        this.#blockUsed += length;
        at += length;
        if (this.#blockUsed === BLOCK_BYTES) this.#block = undefined;
      }
      return;
    }
    this.#sealBlock();
    this.#chunks.push(
      isBorrowed ? Buffer.from(chunk) : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length),
    );
  }

  /** The first chunk, whole; undefined when nothing waits. */
  shift(): Buffer | undefined {
    if (this.#bytes === 0) return undefined;
    if (this.#first === this.#chunks.length - 1) this.#sealBlock();
    const chunk = this.#chunks[this.#first]!;
    this.#drop();
    this.#bytes -= chunk.length;
    return chunk;
  }

  /** Puts back what was taken too much by `shift`. */
  unshift(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#first > 0) this.#chunks[--this.#first] = chunk;
    else this.#chunks.unshift(chunk);
  }

  clear(): void {
    this.#chunks = [];
    this.#first = 0;
    this.#block = undefined;
    this.#bytes = 0;
  }

  #sealBlock(): void {
    if (this.#block === undefined) return;
    this.#chunks[this.#chunks.length - 1] = this.#block.subarray(0, this.#blockUsed);
    this.#block = undefined;
  }

  #drop(): void {
    this.#first += 1;
    if (this.#first === this.#chunks.length) {
      this.#chunks = [];
      this.#first = 0;
    } else if (this.#first >= 64) {
      this.#chunks.splice(0, this.#first);
      this.#first = 0;
    }
  }
}
