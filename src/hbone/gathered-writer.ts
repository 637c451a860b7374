// Bytes gathered into large pieces, so that a turn of the event loop costs one write and one system call, whatever the
// number of pieces it brought. For sessions (http2/outbox.ts) and for plain TCP (ztunnel/tcp.ts).
//
//     bytes ──▶ slab ──(end of callback or turn)──▶ socket.write ──(written)──▶ slab back to the pool
//                 └──(full, or the socket is busy)──▶ waits for the write before it
//
// One write is under way at a time: the socket would join what queues behind it, which is one more copy.

import { BufferPool } from './buffer-pool.ts';

/** Kept for the next turn. */
const MAX_FREE_SLABS = 8;
/** Of the backlog: callers may go on when less is left. More than half, for a backlog of two reads with what frames them. */
const ROOM_SHARE = 0.6;
/** Turns that gathered bytes wait at most while each turn brings a connection. */
const MAX_TURNS_AWAITED = 4;
const { copy } = Buffer.prototype;

/** Slabs of one size and the times of sending, shared by the writers of one data plane. */
export class SlabPool extends BufferPool {
  #dueThisTurn: GatheredWriter[] = [];
  #dueSoon: GatheredWriter[] = [];
  #isMoreExpected = false;
  #turnsAwaited = 0;
  #isInCallback = false;
  readonly #flushTurn = (): void => {
    if (this.#isMoreExpected && this.#turnsAwaited < MAX_TURNS_AWAITED) {
      this.#isMoreExpected = false;
      this.#turnsAwaited += 1;
      setImmediate(this.#flushTurn);
      return;
    }
    this.#isMoreExpected = false;
    this.#turnsAwaited = 0;
    const due = this.#dueThisTurn;
    this.#dueThisTurn = [];
    for (const writer of due) writer.flush();
  };
  readonly #flushSoon = (): void => {
    const due = this.#dueSoon;
    this.#dueSoon = [];
    for (const writer of due) writer.flush();
  };

  constructor(slabBytes: number) {
    super(slabBytes, MAX_FREE_SLABS);
  }

  flushAtEndOfTurn(writer: GatheredWriter): void {
    if (this.#dueThisTurn.push(writer) === 1) setImmediate(this.#flushTurn);
  }

  /**
   * A connection was accepted. The loop accepts one per turn, so others may be waiting: what they bring, too, is to go
   * out with the same write.
   */
  expectMore(): void {
    this.#isMoreExpected = true;
  }

  /**
   * Whoever is called by a socket frames what it does by these two. Elsewhere the end of a callback is a microtask, which
   * Node wraps in a context of its own.
   */
  beginCallback(): void {
    this.#isInCallback = true;
  }

  endCallback(): void {
    this.#isInCallback = false;
    if (this.#dueSoon.length > 0) this.#flushSoon();
  }

  flushAtEndOfCallback(writer: GatheredWriter): void {
    if (this.#isMoreExpected) this.flushAtEndOfTurn(writer);
    else if (this.#dueSoon.push(writer) === 1 && !this.#isInCallback) queueMicrotask(this.#flushSoon);
  }
}

/** The part of a socket that a writer needs. */
export interface WritableSocket {
  /** `written` may be called at once, or in the middle of another `bytes`. */
  write(bytes: Uint8Array, written: (error?: Error | null) => void): unknown;
}

/**
 * When what was gathered is sent. `turn`: when the turn of the event loop ends. That costs a turn, in which the loop asks
 * the kernel for events once more before it sleeps; so `adaptive` sends when the callback ends that brought the bytes, and
 * waits for the turn's end only while turns bring several pieces.
 */
export type Gathering = 'turn' | 'adaptive';

interface Gathered {
  readonly slab: Buffer;
  readonly used: number;
}

export class GatheredWriter {
  readonly #pool: SlabPool;
  readonly #socket: WritableSocket;
  readonly #backlogBytes: number;
  readonly #onRoom: () => void;
  readonly #gathering: Gathering;
  /** The slab being filled, and how far. */
  protected slab: Buffer | undefined;
  protected used = 0;
  #isDue = false;
  /** Pieces since the last write, and whether a turn brought several of them lately. */
  #pieces = 0;
  #isBusy = false;
  #isClosed = false;
  /** Full ones, behind the one that is being written. */
  readonly #queue: Gathered[] = [];
  #writing: Gathered | undefined;
  readonly #onWritten = (): void => this.#written();
  #isProceeding = false;
  /** Of the write under way and of what waits for it. */
  #queuedBytes = 0;
  #isBacklogged = false;

  /** At `backlogBytes` callers are asked to wait, until nearly half of it is gone; then `onRoom` runs. */
  constructor(
    pool: SlabPool,
    socket: WritableSocket,
    backlogBytes: number,
    onRoom: () => void,
    gathering: Gathering = 'turn',
  ) {
    this.#pool = pool;
    this.#socket = socket;
    this.#backlogBytes = backlogBytes;
    this.#onRoom = onRoom;
    this.#gathering = gathering;
  }

  /** Callers should wait: enough is on its way. */
  get isBacklogged(): boolean {
    return this.#isBacklogged;
  }

  /** Nothing is gathered and nothing under way: a direct write keeps the order. */
  get isIdle(): boolean {
    return this.used === 0 && this.#writing === undefined;
  }

  /** Copies, so the caller may do with them what it likes. */
  bytes(source: Uint8Array, start = 0, end = source.length): void {
    this.#pieces += 1;
    let at = start;
    while (at < end) {
      const slab = this.room(1);
      const length = Math.min(end - at, this.#pool.bufferBytes - this.used);
      // Unlike `slab.set` it needs no view of a part.
      copy.call(source, slab, this.used, at, at + length);
      this.used += length;
      at += length;
    }
    if (this.#queuedBytes + this.used >= this.#backlogBytes) this.#isBacklogged = true;
  }

  /** Hands what was gathered to the socket now, or as soon as it has written what it has. */
  flush(): void {
    this.#isDue = false;
    if (this.#isClosed || this.#writing !== undefined || this.used === 0) return;
    this.#isBusy = this.#pieces > 1;
    if (this.#queue.length === 0) this.#write(this.#takeGathered());
    else this.#enqueue();
    this.#proceed();
    this.#tellOfRoom();
  }

  /** Gives everything to the socket at once: nothing follows. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.used > 0) this.#enqueue();
    for (const { slab, used } of this.#queue.splice(0)) this.#socket.write(slab.subarray(0, used), () => {});
  }

  /** The slab with room for so many bytes; the caller advances `used`. */
  protected room(bytes: number): Buffer {
    if (this.slab !== undefined && this.used + bytes > this.#pool.bufferBytes) {
      this.#enqueue();
      this.#proceed();
    }
    if (!this.#isDue) {
      this.#isDue = true;
      if (this.#isBusy || this.#gathering === 'turn') this.#pool.flushAtEndOfTurn(this);
      else this.#pool.flushAtEndOfCallback(this);
    }
    this.slab ??= this.#pool.take();
    return this.slab;
  }

  #enqueue(): void {
    this.#queue.push(this.#takeGathered());
  }

  #takeGathered(): Gathered {
    const gathered: Gathered = { slab: this.slab!, used: this.used };
    this.#queuedBytes += this.used;
    this.slab = undefined;
    this.used = 0;
    this.#pieces = 0;
    return gathered;
  }

  /** Writes what waits, up to the first write that takes its time. */
  #proceed(): void {
    while (this.#writing === undefined && this.#queue.length > 0) this.#write(this.#queue.shift()!);
  }

  #write(next: Gathered): void {
    this.#writing = next;
    this.#isProceeding = true;
    this.#socket.write(next.slab.subarray(0, next.used), this.#onWritten);
    this.#isProceeding = false;
  }

  #written(): void {
    const { slab, used } = this.#writing!;
    this.#writing = undefined;
    this.#queuedBytes -= used;
    this.#pool.giveBack(slab);
    // `#proceed` goes on by itself, and whoever called it is in the middle of something.
    if (this.#isClosed || this.#isProceeding) return;
    if (this.#queue.length === 0 && this.used > 0) {
      // It came while a write was under way: this turn brought several pieces.
      this.#isBusy = true;
      this.#enqueue();
    }
    this.#proceed();
    this.#tellOfRoom();
  }

  #tellOfRoom(): void {
    if (!this.#isBacklogged || this.#queuedBytes + this.used > this.#backlogBytes * ROOM_SHARE) return;
    this.#isBacklogged = false;
    this.#onRoom();
  }
}
