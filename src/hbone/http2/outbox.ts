// What a session is about to send: frames gathered over one turn of the event loop into large pieces, so that a turn
// costs one TLS write and one system call, whatever the number of frames.
//
//     frames ──▶ slab ──(end of turn)──▶ socket.write ──(written)──▶ slab back to the pool
//                  └──(full, or the socket is busy)──▶ waits for the write before it
//
// One write is under way at a time: the socket would join what queues behind it, which is one more copy.

import { FRAME_HEADER_BYTES } from './frame-reader.ts';

/** A whole read of a TCP socket (ztunnel/tcp.ts) and the frame headers it is cut by fit into one. */
const SLAB_BYTES = 260 * 1024;
/** Kept for the next turn; more are left to the collector. */
const MAX_FREE_SLABS = 8;
/** Above it writers are asked to wait, until half of it is gone. Two full turns: the socket is never without work. */
const BACKLOG_BYTES = 512 * 1024;

/** What the sessions of one data plane share: slabs, and the end of the turn. */
export class OutboxPool {
  readonly #free: Buffer[] = [];
  #due: Outbox[] = [];
  readonly #flush = (): void => {
    const due = this.#due;
    this.#due = [];
    for (const outbox of due) outbox.flush();
  };

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES);
  }

  /** `slab`: one of ours, or the used part of one. */
  giveBack(slab: Buffer): void {
    if (this.#free.length < MAX_FREE_SLABS) this.#free.push(Buffer.from(slab.buffer));
  }

  flushAtEndOfTurn(outbox: Outbox): void {
    if (this.#due.push(outbox) === 1) setImmediate(this.#flush);
  }
}

/** The part of a socket that an outbox needs. */
export interface OutboxSocket {
  write(bytes: Uint8Array, written: (error?: Error | null) => void): boolean;
}

export class Outbox {
  readonly #pool: OutboxPool;
  readonly #socket: OutboxSocket;
  readonly #onRoom: () => void;
  #slab: Buffer | undefined;
  #used = 0;
  #isDue = false;
  #isClosed = false;
  /** Slabs that are full and wait for the write under way. */
  #full: Buffer[] = [];
  #isWriting = false;
  /** Of the write under way and of full slabs. */
  #queuedBytes = 0;
  #isBacklogged = false;

  /** `onRoom` runs when writers that were asked to wait may go on. */
  constructor(pool: OutboxPool, socket: OutboxSocket, onRoom: () => void) {
    this.#pool = pool;
    this.#socket = socket;
    this.#onRoom = onRoom;
  }

  /** Writers should wait: more than enough is on its way. */
  get isBacklogged(): boolean {
    return this.#isBacklogged;
  }

  /** A frame's header; its payload follows by `bytes` or `uint32`. */
  frame(type: number, flags: number, streamId: number, length: number): void {
    const slab = this.#room(FRAME_HEADER_BYTES);
    let at = this.#used;
    slab[at++] = length >>> 16;
    slab[at++] = length >>> 8;
    slab[at++] = length;
    slab[at++] = type;
    slab[at++] = flags;
    slab[at++] = streamId >>> 24;
    slab[at++] = streamId >>> 16;
    slab[at++] = streamId >>> 8;
    slab[at++] = streamId;
    this.#used = at;
  }

  uint16(value: number): void {
    const slab = this.#room(2);
    this.#used = slab.writeUInt16BE(value, this.#used);
  }

  uint32(value: number): void {
    const slab = this.#room(4);
    this.#used = slab.writeUInt32BE(value >>> 0, this.#used);
  }

  /** Copies, so the caller may do with them what it likes. */
  bytes(source: Uint8Array, start = 0, end = source.length): void {
    let at = start;
    while (at < end) {
      const slab = this.#room(1);
      const length = Math.min(end - at, SLAB_BYTES - this.#used);
      slab.set(at === 0 && length === source.length ? source : source.subarray(at, at + length), this.#used);
      this.#used += length;
      at += length;
    }
  }

  /** Hands what was gathered to the socket now, or as soon as it has written what it has. */
  flush(): void {
    this.#isDue = false;
    if (this.#isClosed || this.#isWriting || this.#used === 0) return;
    const slab = this.#takeSlab();
    this.#queuedBytes += slab.length;
    this.#write(slab);
  }

  /** Gives everything to the socket at once: nothing follows. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const rest = this.#used === 0 ? this.#full : [...this.#full, this.#takeSlab()];
    this.#full = [];
    for (const slab of rest) this.#socket.write(slab, () => {});
  }

  #takeSlab(): Buffer {
    const slab = this.#slab!.subarray(0, this.#used);
    this.#slab = undefined;
    this.#used = 0;
    return slab;
  }

  #write(slab: Buffer): void {
    if (this.#queuedBytes >= BACKLOG_BYTES) this.#isBacklogged = true;
    this.#isWriting = true;
    this.#socket.write(slab, () => {
      this.#pool.giveBack(slab);
      this.#isWriting = false;
      this.#queuedBytes -= slab.length;
      if (this.#isClosed) return;
      const next = this.#full.shift();
      if (next !== undefined) this.#write(next);
      else this.flush();
      if (this.#isBacklogged && this.#queuedBytes <= BACKLOG_BYTES / 2) {
        this.#isBacklogged = false;
        this.#onRoom();
      }
    });
  }

  #room(bytes: number): Buffer {
    if (this.#slab !== undefined && this.#used + bytes > SLAB_BYTES) {
      const slab = this.#takeSlab();
      this.#queuedBytes += slab.length;
      if (this.#isWriting) {
        this.#full.push(slab);
        if (this.#queuedBytes >= BACKLOG_BYTES) this.#isBacklogged = true;
      } else this.#write(slab);
    }
    if (!this.#isDue) {
      this.#isDue = true;
      this.#pool.flushAtEndOfTurn(this);
    }
    this.#slab ??= this.#pool.take();
    return this.#slab;
  }
}
