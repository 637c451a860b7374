// Bytes gathered over one turn of the event loop into large pieces, so that a turn costs one write and one system call,
// whatever the number of pieces it brought. For sessions (http2/outbox.ts) and for plain TCP (ztunnel/tcp.ts).
//
//     bytes ──▶ slab ──(end of turn)──▶ socket.write ──(written)──▶ slab back to the pool
//                 └──(full, or the socket is busy)──▶ waits for the write before it
//
// One write is under way at a time: the socket would join what queues behind it, which is one more copy.

/** Kept for the next turn; more are left to the collector. */
const MAX_FREE_SLABS = 8;

/** Slabs of one size and the end of the turn, shared by the writers of one data plane. */
export class SlabPool {
  readonly slabBytes: number;
  readonly #free: Buffer[] = [];
  #due: GatheredWriter[] = [];
  readonly #flush = (): void => {
    const due = this.#due;
    this.#due = [];
    for (const writer of due) writer.flush();
  };

  constructor(slabBytes: number) {
    this.slabBytes = slabBytes;
  }

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.slabBytes);
  }

  /** `slab`: one of ours, or the used part of one. */
  giveBack(slab: Buffer): void {
    if (this.#free.length < MAX_FREE_SLABS) this.#free.push(Buffer.from(slab.buffer));
  }

  flushAtEndOfTurn(writer: GatheredWriter): void {
    if (this.#due.push(writer) === 1) setImmediate(this.#flush);
  }
}

/** The part of a socket that a writer needs. */
export interface WritableSocket {
  write(bytes: Uint8Array, written: (error?: Error | null) => void): boolean;
}

export class GatheredWriter {
  readonly #pool: SlabPool;
  readonly #socket: WritableSocket;
  readonly #backlogBytes: number;
  readonly #onRoom: () => void;
  /** The slab being filled, and how far. */
  protected slab: Buffer | undefined;
  protected used = 0;
  #isDue = false;
  #isClosed = false;
  /** Slabs that are full and wait for the write under way. */
  #full: Buffer[] = [];
  #isWriting = false;
  /** Of the write under way and of full slabs. */
  #queuedBytes = 0;
  #isBacklogged = false;

  /** At `backlogBytes` callers are asked to wait, until half of it is gone; then `onRoom` runs. */
  constructor(pool: SlabPool, socket: WritableSocket, backlogBytes: number, onRoom: () => void) {
    this.#pool = pool;
    this.#socket = socket;
    this.#backlogBytes = backlogBytes;
    this.#onRoom = onRoom;
  }

  /** Callers should wait: enough is on its way. */
  get isBacklogged(): boolean {
    return this.#isBacklogged;
  }

  /** Nothing is gathered and nothing under way: a direct write keeps the order. */
  get isIdle(): boolean {
    return this.used === 0 && !this.#isWriting;
  }

  /** Copies, so the caller may do with them what it likes. */
  bytes(source: Uint8Array, start = 0, end = source.length): void {
    let at = start;
    while (at < end) {
      const slab = this.room(1);
      const length = Math.min(end - at, this.#pool.slabBytes - this.used);
      slab.set(at === 0 && length === source.length ? source : source.subarray(at, at + length), this.used);
      this.used += length;
      at += length;
    }
  }

  /** Hands what was gathered to the socket now, or as soon as it has written what it has. */
  flush(): void {
    this.#isDue = false;
    if (this.#isClosed || this.#isWriting || this.used === 0) return;
    this.#write(this.#takeSlab());
  }

  /** Gives everything to the socket at once: nothing follows. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const rest = this.used === 0 ? this.#full : [...this.#full, this.#takeSlab()];
    this.#full = [];
    for (const slab of rest) this.#socket.write(slab, () => {});
  }

  /** The slab with room for so many bytes; the caller advances `used`. */
  protected room(bytes: number): Buffer {
    if (this.slab !== undefined && this.used + bytes > this.#pool.slabBytes) {
      const slab = this.#takeSlab();
      if (this.#isWriting) this.#full.push(slab);
      else this.#write(slab);
    }
    if (!this.#isDue) {
      this.#isDue = true;
      this.#pool.flushAtEndOfTurn(this);
    }
    this.slab ??= this.#pool.take();
    return this.slab;
  }

  #takeSlab(): Buffer {
    const slab = this.slab!.subarray(0, this.used);
    this.slab = undefined;
    this.used = 0;
    this.#queuedBytes += slab.length;
    if (this.#queuedBytes >= this.#backlogBytes) this.#isBacklogged = true;
    return slab;
  }

  #write(slab: Buffer): void {
    this.#isWriting = true;
    this.#socket.write(slab, () => {
      this.#pool.giveBack(slab);
      this.#isWriting = false;
      this.#queuedBytes -= slab.length;
      if (this.#isClosed) return;
      const next = this.#full.shift();
      if (next !== undefined) this.#write(next);
      else this.flush();
      if (this.#isBacklogged && this.#queuedBytes <= this.#backlogBytes / 2) {
        this.#isBacklogged = false;
        this.#onRoom();
      }
    });
  }
}
