// Frames out of the bytes of a session (RFC 9113 §4.1), however they are cut. DATA is handed on as it comes, everything
// else whole. What the frames mean is session.ts's business.

import { FRAME_SIZE_ERROR, PROTOCOL_ERROR, SessionError } from './errors.ts';

export const FRAME_HEADER_BYTES = 9;
/** What we advertise as MAX_FRAME_SIZE (ztunnel.md §5.4). */
export const MAX_FRAME_BYTES = 1 << 20;
/** Of frames that must be whole before they can be read. No honest header block or farewell comes near it. */
export const MAX_WHOLE_FRAME_BYTES = 1 << 17;

export const DATA = 0;
export const HEADERS = 1;
export const PRIORITY = 2;
export const RST_STREAM = 3;
export const SETTINGS = 4;
export const PUSH_PROMISE = 5;
export const PING = 6;
export const GOAWAY = 7;
export const WINDOW_UPDATE = 8;
export const CONTINUATION = 9;

export const END_STREAM = 0x1;
export const ACK = 0x1;
export const END_HEADERS = 0x4;
export const PADDED = 0x8;
export const PRIORITY_FLAG = 0x20;

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** Everything may throw SessionError. */
export interface FrameHandler {
  /** A DATA frame begins; `length` is its whole payload, padding included (that is what flow control counts). */
  dataBegins(streamId: number, length: number): void;
  /** Content of the present DATA frame; valid during the call only. */
  data(chunk: Buffer): void;
  dataEnds(isLast: boolean): void;
  /** Any other known frame; the payload is valid during the call only. */
  frame(type: number, flags: number, streamId: number, payload: Buffer): void;
  /** A frame of a type that nobody defined, skipped (RFC 9113 §4.1). */
  unknownFrame(): void;
}

/**
 * preface: a server's first bytes.   header: nine bytes.   padLength, data, padding: inside DATA.
 * whole: collecting a frame.         skip: dropping one.
 */
type State = 'preface' | 'header' | 'padLength' | 'data' | 'padding' | 'whole' | 'skip';

export class FrameReader {
  readonly #handler: FrameHandler;
  #state: State;
  #stopped = false;
  /** Of the preface, header or whole frame being collected. */
  #have = 0;
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);
  #whole: Buffer = Buffer.alloc(0);
  /** Bytes of the present payload still to come; of a padded frame without its padding. */
  #left = 0;
  #padding = 0;
  #type = 0;
  #flags = 0;
  #streamId = 0;

  constructor(handler: FrameHandler, expectsPreface: boolean) {
    this.#handler = handler;
    this.#state = expectsPreface ? 'preface' : 'header';
  }

  /** Nothing is handed on any more, not even of the chunk being read. */
  stop(): void {
    this.#stopped = true;
  }

  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && !this.#stopped) {
      switch (this.#state) {
        case 'header':
          at = this.#readHeader(chunk, at);
          break;
        case 'data': {
          const end = Math.min(chunk.length, at + this.#left);
          this.#left -= end - at;
          this.#handler.data(at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end));
          at = end;
          if (this.#left === 0) this.#endOfData();
          break;
        }
        case 'whole':
          at = this.#readWhole(chunk, at);
          break;
        case 'padLength':
          this.#padding = chunk[at++]!;
          this.#left -= 1;
          if (this.#padding > this.#left)
            throw new SessionError(PROTOCOL_ERROR, 'a DATA frame has more padding than content');
          this.#left -= this.#padding;
          this.#state = 'data';
          if (this.#left === 0) this.#endOfData();
          break;
        case 'padding':
        case 'skip': {
          const end = Math.min(chunk.length, at + this.#left);
          this.#left -= end - at;
          at = end;
          if (this.#left === 0) this.#endOfSkipped();
          break;
        }
        case 'preface':
          at = this.#readPreface(chunk, at);
          break;
      }
    }
  }

  #readPreface(chunk: Buffer, start: number): number {
    const end = Math.min(chunk.length, start + PREFACE.length - this.#have);
    if (chunk.compare(PREFACE, this.#have, this.#have + end - start, start, end) !== 0)
      throw new SessionError(PROTOCOL_ERROR, 'the peer does not speak HTTP/2');
    this.#have += end - start;
    if (this.#have === PREFACE.length) {
      this.#have = 0;
      this.#state = 'header';
    }
    return end;
  }

  #readHeader(chunk: Buffer, start: number): number {
    if (this.#have === 0 && chunk.length - start >= FRAME_HEADER_BYTES) {
      this.#begin(chunk, start);
      return start + FRAME_HEADER_BYTES;
    }
    const end = Math.min(chunk.length, start + FRAME_HEADER_BYTES - this.#have);
    chunk.copy(this.#header, this.#have, start, end);
    this.#have += end - start;
    if (this.#have === FRAME_HEADER_BYTES) {
      this.#have = 0;
      this.#begin(this.#header, 0);
    }
    return end;
  }

  #begin(bytes: Buffer, at: number): void {
    const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    this.#type = bytes[at + 3]!;
    this.#flags = bytes[at + 4]!;
    this.#streamId =
      ((bytes[at + 5]! & 0x7f) << 24) | (bytes[at + 6]! << 16) | (bytes[at + 7]! << 8) | bytes[at + 8]!;
    if (length > MAX_FRAME_BYTES)
      throw new SessionError(
        FRAME_SIZE_ERROR,
        `a frame of ${length} bytes, more than the ${MAX_FRAME_BYTES} we take`,
      );
    this.#left = length;
    if (this.#type === DATA) {
      this.#handler.dataBegins(this.#streamId, length);
      this.#padding = 0;
      const isPadded = (this.#flags & PADDED) !== 0;
      if (isPadded && length === 0)
        throw new SessionError(FRAME_SIZE_ERROR, 'a padded DATA frame without its padding');
      this.#state = isPadded ? 'padLength' : 'data';
      if (length === 0) this.#endOfData();
    } else if (this.#type <= CONTINUATION) {
      if (length > MAX_WHOLE_FRAME_BYTES)
        throw new SessionError(FRAME_SIZE_ERROR, `a frame of type ${this.#type} with ${length} bytes`);
      if (length === 0) this.#handler.frame(this.#type, this.#flags, this.#streamId, this.#whole);
      else this.#state = 'whole';
    } else {
      this.#handler.unknownFrame();
      if (length > 0) this.#state = 'skip';
    }
  }

  #readWhole(chunk: Buffer, start: number): number {
    const have = this.#have;
    if (have === 0 && chunk.length - start >= this.#left) {
      const end = start + this.#left;
      this.#state = 'header';
      this.#handler.frame(this.#type, this.#flags, this.#streamId, chunk.subarray(start, end));
      return end;
    }
    if (have === 0) this.#whole = Buffer.allocUnsafe(this.#left);
    const end = Math.min(chunk.length, start + this.#left);
    chunk.copy(this.#whole, have, start, end);
    this.#have += end - start;
    this.#left -= end - start;
    if (this.#left === 0) {
      const payload = this.#whole;
      this.#whole = Buffer.alloc(0);
      this.#have = 0;
      this.#state = 'header';
      this.#handler.frame(this.#type, this.#flags, this.#streamId, payload);
    }
    return end;
  }

  #endOfData(): void {
    this.#left = this.#padding;
    if (this.#left > 0) this.#state = 'padding';
    else this.#endOfSkipped();
  }

  #endOfSkipped(): void {
    this.#state = 'header';
    if (this.#type === DATA && !this.#stopped) this.#handler.dataEnds((this.#flags & END_STREAM) !== 0);
  }
}
