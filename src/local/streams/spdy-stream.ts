// One stream of a SPDY connection as an ordinary Duplex. Ending it sends FIN, destroying it sends RST; what is not read
// costs the peer its window, what the peer does not read costs the writer its callback.

import { Duplex } from 'node:stream';
import { RST_CANCEL, RST_REFUSED_STREAM } from '#k8s/streams/spdy-frames.ts';
import type { SpdyHeaders } from '#k8s/streams/spdy-headers.ts';

/** Initial window of a stream (draft 3.1 §2.6.8), and what is buffered for a reader before the connection is held up. */
export const WINDOW_BYTES = 64 * 1024;
/** Frames are kept small, so that streams take turns. */
const MAX_DATA_BYTES = 16 * 1024;

/** What a stream needs of its connection. */
export interface StreamCarrier {
  /** The common window of all streams; Infinity while the peer shows no sign of flow control. */
  sessionWindowBytes(): number;
  sendData(streamId: number, bytes: Buffer, fin: boolean): void;
  sendReply(streamId: number): void;
  sendReset(streamId: number, status: number): void;
  sendWindowUpdate(streamId: number, deltaBytes: number): void;
  /** Whether the transport asks to wait; `whenDrained` then calls once it does not. */
  readonly isFull: boolean;
  whenDrained(run: () => void): void;
  /** No more input is taken from the peer while a stream is held up. */
  setHeldUp(stream: SpdyStream, heldUp: boolean): void;
  forget(stream: SpdyStream): void;
}

export class SpdyStream extends Duplex {
  readonly id: number;
  readonly headers: SpdyHeaders;
  readonly #carrier: StreamCarrier;
  #sendWindowBytes: number;
  #pending: Buffer = Buffer.alloc(0);
  #written: ((error?: Error | null) => void) | undefined;
  #receivedBytes = 0;
  #creditedBytes = 0;
  #sentFin = false;
  #receivedFin = false;
  #isReset = false;

  constructor(carrier: StreamCarrier, id: number, headers: SpdyHeaders, sendWindowBytes: number) {
    super({ highWaterMark: WINDOW_BYTES, allowHalfOpen: true });
    this.#carrier = carrier;
    this.id = id;
    this.headers = headers;
    this.#sendWindowBytes = sendWindowBytes;
  }

  /** Answers the peer's SYN_STREAM; it waits for that before it sends. */
  accept(): void {
    this.#carrier.sendReply(this.id);
  }

  refuse(): void {
    this.#reset(RST_REFUSED_STREAM);
    this.destroy();
  }

  /** DATA from the peer. Returns false for data after its FIN. */
  receive(bytes: Buffer, fin: boolean): boolean {
    if (this.#receivedFin) return false;
    this.#receivedBytes += bytes.length;
    if (bytes.length > 0) this.push(bytes);
    if (this.readableLength > WINDOW_BYTES) this.#carrier.setHeldUp(this, true);
    else this.#account(); // a flowing stream hands on without `read`
    if (fin) {
      this.#receivedFin = true;
      this.push(null);
    }
    return true;
  }

  /** RST from the peer. */
  wasReset(): void {
    this.#isReset = true;
    this.destroy();
  }

  /** The connection is over: nothing can be sent any more. */
  abandon(): void {
    this.#isReset = true;
    this.destroy();
  }

  widen(deltaBytes: number): void {
    this.#sendWindowBytes += deltaBytes;
    this.pump();
  }

  get sendWindowBytes(): number {
    return this.#sendWindowBytes;
  }

  override _read(): void {} // the peer sends unasked

  /** What was taken is counted here: `_read` is called before it is taken, and not again until something new came. */
  override read(size?: number): Buffer | null {
    const chunk = super.read(size) as Buffer | null;
    this.#account();
    return chunk;
  }

  #account(): void {
    if (this.readableLength <= WINDOW_BYTES) this.#carrier.setHeldUp(this, false);
    const consumed = this.#receivedBytes - this.readableLength - this.#creditedBytes;
    if (consumed < WINDOW_BYTES / 2 || this.#receivedFin) return;
    this.#creditedBytes += consumed;
    this.#carrier.sendWindowUpdate(this.id, consumed);
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#pending = chunk;
    this.#written = callback;
    this.pump();
  }

  /** Sends what windows and transport allow. */
  pump(): void {
    while (this.#written !== undefined && !this.destroyed) {
      if (this.#carrier.isFull) {
        this.#carrier.whenDrained(() => this.pump());
        return;
      }
      if (this.#pending.length === 0) {
        const written = this.#written;
        this.#written = undefined;
        written();
        return;
      }
      const sessionBytes = this.#carrier.sessionWindowBytes();
      const window = sessionBytes === Number.POSITIVE_INFINITY ? sessionBytes : this.#sendWindowBytes;
      const length = Math.min(this.#pending.length, MAX_DATA_BYTES, window, sessionBytes);
      if (length <= 0) return; // a WINDOW_UPDATE calls again
      this.#sendWindowBytes -= length;
      this.#carrier.sendData(this.id, this.#pending.subarray(0, length), false);
      this.#pending = this.#pending.subarray(length);
    }
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (!this.#isReset) this.#carrier.sendData(this.id, Buffer.alloc(0), true);
    this.#sentFin = true;
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (!(this.#sentFin && this.#receivedFin)) this.#reset(RST_CANCEL);
    this.#pending = Buffer.alloc(0);
    const written = this.#written;
    this.#written = undefined;
    this.#carrier.setHeldUp(this, false);
    this.#carrier.forget(this);
    written?.(error ?? new Error('the stream was closed'));
    callback(error);
  }

  #reset(status: number): void {
    if (this.#isReset) return;
    this.#isReset = true;
    this.#carrier.sendReset(this.id, status);
  }
}
