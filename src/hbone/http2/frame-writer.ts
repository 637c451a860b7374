// Frames of a session that carry no application bytes, into its outbox (RFC 9113 §6).

import {
  ACK,
  CONTINUATION,
  END_HEADERS,
  END_STREAM,
  GOAWAY,
  HEADERS,
  PING,
  RST_STREAM,
  WINDOW_UPDATE,
} from './frame-reader.ts';
import type { Outbox } from './outbox.ts';

/** One header block, in as many frames as the peer's MAX_FRAME_SIZE asks for. */
export function writeHeaders(
  outbox: Outbox,
  streamId: number,
  block: Uint8Array,
  endsStream: boolean,
  maxFrameBytes: number,
): void {
  let at = Math.min(block.length, maxFrameBytes);
  const isWhole = at === block.length;
  outbox.frame(HEADERS, (isWhole ? END_HEADERS : 0) | (endsStream ? END_STREAM : 0), streamId, at);
  outbox.bytes(block, 0, at);
  while (at < block.length) {
    const end = Math.min(block.length, at + maxFrameBytes);
    outbox.frame(CONTINUATION, end === block.length ? END_HEADERS : 0, streamId, end - at);
    outbox.bytes(block, at, end);
    at = end;
  }
}

/** `why` comes back in the answer. */
export function writePing(outbox: Outbox, why: number): void {
  outbox.frame(PING, 0, 0, 8);
  outbox.uint32(0);
  outbox.uint32(why);
}

export function writePong(outbox: Outbox, payload: Uint8Array): void {
  outbox.frame(PING, ACK, 0, 8);
  outbox.bytes(payload);
}

export function writeReset(outbox: Outbox, streamId: number, code: number): void {
  outbox.frame(RST_STREAM, 0, streamId, 4);
  outbox.uint32(code);
}

export function writeWindowUpdate(outbox: Outbox, streamId: number, bytes: number): void {
  outbox.frame(WINDOW_UPDATE, 0, streamId, 4);
  outbox.uint32(bytes);
}

/** `why`: an operator's words for the peer's log. */
export function writeGoaway(outbox: Outbox, lastStreamId: number, code: number, why = ''): void {
  const text = Buffer.from(why);
  outbox.frame(GOAWAY, 0, 0, 8 + text.length);
  outbox.uint32(lastStreamId);
  outbox.uint32(code);
  outbox.bytes(text);
}
