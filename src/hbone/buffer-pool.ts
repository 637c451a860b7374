// Buffers of one size that are used again: fresh ones of this size cost the kernel a page fault every 4 KiB, and the
// collector a full collection every few hundred.

export class BufferPool {
  readonly bufferBytes: number;
  /** Runs when a fresh buffer had to be made: there is more to do than lately. */
  onFresh: (() => void) | undefined;
  readonly #keep: number;
  readonly #free: Buffer[] = [];

  /** More than `keep` unused ones are left to the collector. */
  constructor(bufferBytes: number, keep: number) {
    this.bufferBytes = bufferBytes;
    this.#keep = keep;
  }

  /** What lies in it is anybody's. */
  take(): Buffer {
    return this.#free.pop() ?? this.#fresh();
  }

  giveBack(buffer: Buffer): void {
    if (this.#free.length < this.#keep) this.#free.push(buffer);
  }

  /** Leaves all but so many bytes of the unused ones to the collector, one buffer at least. */
  shrink(toBytes: number): void {
    this.#free.length = Math.min(this.#free.length, Math.max(1, Math.floor(toBytes / this.bufferBytes)));
  }

  #fresh(): Buffer {
    this.onFresh?.();
    return Buffer.allocUnsafeSlow(this.bufferBytes);
  }
}
