// Header blocks out of HEADERS and CONTINUATION frames (RFC 9113 §6.2, §6.10). Between the two nothing else may come.

import { wrongSize } from './control-frames.ts';
import { ENHANCE_YOUR_CALM, PROTOCOL_ERROR, SessionError } from './errors.ts';
import { END_HEADERS, END_STREAM, MAX_WHOLE_FRAME_BYTES, PADDED, PRIORITY_FLAG } from './frame-reader.ts';

const MAX_CONTINUATIONS = 32;

export interface HeaderBlock {
  readonly streamId: number;
  readonly endsStream: boolean;
  readonly bytes: Buffer;
}

export class HeaderBlocks {
  #begun: { readonly streamId: number; readonly endsStream: boolean } | undefined;
  #parts: Buffer[] = [];
  #bytes = 0;

  /** To be called for every frame that is no CONTINUATION. */
  expectNone(): void {
    if (this.#begun !== undefined)
      throw new SessionError(PROTOCOL_ERROR, 'another frame inside a header block');
  }

  /** A block that is complete with this frame; its bytes are valid during the call only. */
  headers(flags: number, streamId: number, payload: Buffer): HeaderBlock | undefined {
    let start = 0;
    let end = payload.length;
    if ((flags & PADDED) !== 0) {
      if (end === 0) throw wrongSize('HEADERS', payload);
      end -= payload[0]!;
      start = 1;
    }
    if ((flags & PRIORITY_FLAG) !== 0) start += 5;
    if (start > end) throw new SessionError(PROTOCOL_ERROR, 'HEADERS with more padding than content');
    const bytes = payload.subarray(start, end);
    const endsStream = (flags & END_STREAM) !== 0;
    if ((flags & END_HEADERS) !== 0) return { streamId, endsStream, bytes };
    this.#begun = { streamId, endsStream };
    this.#parts = [Buffer.from(bytes)];
    this.#bytes = bytes.length;
    return undefined;
  }

  continuation(flags: number, streamId: number, payload: Buffer): HeaderBlock | undefined {
    const begun = this.#begun;
    if (begun === undefined || streamId !== begun.streamId)
      throw new SessionError(PROTOCOL_ERROR, 'CONTINUATION without HEADERS before it');
    this.#parts.push(Buffer.from(payload));
    this.#bytes += payload.length;
    if (this.#bytes > MAX_WHOLE_FRAME_BYTES || this.#parts.length > MAX_CONTINUATIONS)
      throw new SessionError(ENHANCE_YOUR_CALM, 'a header block without end');
    if ((flags & END_HEADERS) === 0) return undefined;
    this.#begun = undefined;
    const block = { ...begun, bytes: Buffer.concat(this.#parts) };
    this.#parts = [];
    return block;
  }
}
