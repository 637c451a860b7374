// What a session is about to send: frames gathered over one turn of the event loop into large pieces, so that a turn
// costs one TLS write and one system call, whatever the number of frames.
//
//     frames ──▶ slab ──(end of turn, or full)──▶ socket.write ──(written)──▶ slab back to the pool

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

  giveBack(slab: Buffer): void {
    if (this.#free.length < MAX_FREE_SLABS) this.#free.push(slab);
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
  /** Given to the socket and not yet taken by the kernel. */
  #inFlightBytes = 0;
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

  get isEmpty(): boolean {
    return this.#used === 0 && this.#inFlightBytes === 0;
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

  /** Hands everything gathered to the socket now. */
  flush(): void {
    this.#isDue = false;
    const slab = this.#slab;
    if (slab === undefined || this.#isClosed) return;
    const length = this.#used;
    this.#slab = undefined;
    this.#used = 0;
    this.#inFlightBytes += length;
    if (this.#inFlightBytes >= BACKLOG_BYTES) this.#isBacklogged = true;
    this.#socket.write(slab.subarray(0, length), () => {
      this.#pool.giveBack(slab);
      this.#inFlightBytes -= length;
      if (this.#isBacklogged && this.#inFlightBytes <= BACKLOG_BYTES / 2) {
        this.#isBacklogged = false;
        if (!this.#isClosed) this.#onRoom();
      }
    });
  }

  /** Nothing is sent any more. What the socket has it may still send. */
  close(): void {
    this.#isClosed = true;
    this.#slab = undefined;
    this.#used = 0;
  }

  #room(bytes: number): Buffer {
    if (this.#slab !== undefined && this.#used + bytes > SLAB_BYTES) this.flush();
    if (!this.#isDue) {
      this.#isDue = true;
      this.#pool.flushAtEndOfTurn(this);
    }
    this.#slab ??= this.#pool.take();
    return this.#slab;
  }
}
