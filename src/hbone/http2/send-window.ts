// What a session may send: the windows that the peer gives it, the room that the socket has, and the streams that wait
// for either.

import { FLOW_CONTROL_ERROR, PROTOCOL_ERROR, SessionError } from './errors.ts';
import { DATA } from './frame-reader.ts';
import type { Outbox } from './outbox.ts';
import { DEFAULT_WINDOW_BYTES } from './receive-window.ts';
import { MAX_WINDOW_BYTES } from './settings-frame.ts';
import type { Stream } from './stream.ts';
import type { StreamTable } from './stream-table.ts';

const DEFAULT_FRAME_BYTES = 16_384;
/** Writers woken in one turn: as many as can fill the socket if each brings a whole read. The others follow turn by turn. */
const WAKE_AT_ONCE = 2;

export class SendWindow {
  readonly #outbox: Outbox;
  readonly #streams: StreamTable<Stream>;
  /** Streams that have something to send, or whose writers were asked to wait, and that the session holds back. */
  readonly #waiting = new Set<Stream>();
  #isWaking = false;
  #isWakeDue = false;
  #tunnelWindow = DEFAULT_WINDOW_BYTES;
  /** The peer's INITIAL_WINDOW_SIZE and MAX_FRAME_SIZE. */
  #initialBytes = DEFAULT_WINDOW_BYTES;
  maxFrameBytes = DEFAULT_FRAME_BYTES;

  constructor(outbox: Outbox, streams: StreamTable<Stream>) {
    this.#outbox = outbox;
    this.#streams = streams;
  }

  /** Of a new stream. */
  get initialBytes(): number {
    return this.#initialBytes;
  }

  /** Sends as much of the chunk as may go now and returns how many bytes that was. */
  send(stream: Stream, chunk: Uint8Array): number {
    if (this.#outbox.isBacklogged) return 0;
    const total = Math.min(chunk.length, stream.sendWindow, this.#tunnelWindow);
    if (total <= 0) return 0;
    for (let at = 0; at < total; ) {
      const length = Math.min(total - at, this.maxFrameBytes);
      this.#outbox.frame(DATA, 0, stream.id, length);
      this.#outbox.bytes(chunk, at, at + length);
      at += length;
    }
    stream.sendWindow -= total;
    this.#tunnelWindow -= total;
    stream.isSending = true;
    if (this.#outbox.isBacklogged) this.#holdOthers(stream);
    return total;
  }

  wait(stream: Stream): void {
    this.#waiting.add(stream);
  }

  forget(stream: Stream): void {
    this.#waiting.delete(stream);
  }

  /** The socket has room, or the peer gave credit: streams that waited go on, some at a time. */
  wake(): void {
    if (this.#isWaking) return;
    this.#isWaking = true;
    let woken = 0;
    for (const stream of this.#waiting) {
      if (this.#outbox.isBacklogged || woken++ === WAKE_AT_ONCE) break;
      if (!this.#proceed(stream)) break;
    }
    this.#isWaking = false;
    if (woken <= WAKE_AT_ONCE || this.#isWakeDue) return;
    this.#isWakeDue = true;
    setImmediate(() => {
      this.#isWakeDue = false;
      this.wake();
    });
  }

  widenTunnel(bytes: number): void {
    if (bytes === 0) throw new SessionError(PROTOCOL_ERROR, 'a WINDOW_UPDATE of 0');
    this.#tunnelWindow += bytes;
    if (this.#tunnelWindow > MAX_WINDOW_BYTES)
      throw new SessionError(FLOW_CONTROL_ERROR, 'the window of the session grows beyond all limits');
    this.wake();
  }

  widenStream(stream: Stream, bytes: number): void {
    if (bytes === 0) {
      stream.fail(PROTOCOL_ERROR, { clean: false, reason: 'the peer sent a WINDOW_UPDATE of 0' });
      return;
    }
    stream.sendWindow += bytes;
    if (stream.sendWindow > MAX_WINDOW_BYTES) {
      const reason = 'the window of the stream grows beyond all limits';
      stream.fail(FLOW_CONTROL_ERROR, { clean: false, reason });
    } else if (stream.sendWindow > 0) this.#proceed(stream);
  }

  /** RFC 9113 §6.9.2: the difference counts for open streams, too, and may leave them below zero. */
  changeInitial(bytes: number): void {
    const change = bytes - this.#initialBytes;
    this.#initialBytes = bytes;
    const streams = this.#streams.values();
    for (const stream of streams) {
      stream.sendWindow += change;
      if (stream.sendWindow > MAX_WINDOW_BYTES)
        throw new SessionError(FLOW_CONTROL_ERROR, 'an INITIAL_WINDOW_SIZE that overflows a stream');
    }
    if (change > 0) for (const stream of streams) if (stream.sendWindow > 0) this.#proceed(stream);
  }

  close(): void {
    this.#waiting.clear();
  }

  /**
   * `stream` hears that there is no room from its own `write`. The others are told before they read their sockets: what
   * they read in this turn would have to be kept, in buffers of its own, and copied twice.
   */
  #holdOthers(stream: Stream): void {
    for (const other of this.#streams.values()) {
      if (other.isSending && other !== stream) other.hold();
      other.isSending = false;
    }
  }

  /** False when the session, not the stream, has no room. */
  #proceed(stream: Stream): boolean {
    // Before: in `proceed` the stream may ask to wait anew.
    this.#waiting.delete(stream);
    if (stream.proceed()) {
      stream.isSending = true;
      return true;
    }
    // One that its own window holds back is called when that window opens.
    if (stream.sendWindow <= 0) return true;
    this.#waiting.add(stream);
    return false;
  }
}
