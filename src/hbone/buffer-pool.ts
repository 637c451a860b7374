// Buffers of one size that are used again: fresh ones of this size cost the kernel a page fault every 4 KiB, and the
// collector a full collection every few hundred.

export class BufferPool {
  readonly bufferBytes: number;
  readonly #keep: number;
  readonly #free: Buffer[] = [];

  /** More than `keep` unused ones are left to the collector. */
  constructor(bufferBytes: number, keep: number) {
    this.bufferBytes = bufferBytes;
    this.#keep = keep;
  }

  /** What lies in it is anybody's. */
  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.bufferBytes);
  }

  giveBack(buffer: Buffer): void {
    if (this.#free.length < this.#keep) this.#free.push(buffer);
  }
}
