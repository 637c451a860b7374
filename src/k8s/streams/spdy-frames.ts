// SPDY/3.1 frames (draft-mbelshe-httpbis-spdy-00 §2.6, draft 3.1 §2.6.8): bytes to frames and back. Header blocks stay
// compressed here. DATA comes out in pieces as it arrives, so that a frame of 16 MB is never held.

import { MeshError } from '#base/errors.ts';

export const FLAG_FIN = 0x01;
export const FLAG_UNIDIRECTIONAL = 0x02;

export const RST_PROTOCOL_ERROR = 1;
export const RST_INVALID_STREAM = 2;
export const RST_REFUSED_STREAM = 3;
export const RST_CANCEL = 5;
export const RST_FLOW_CONTROL_ERROR = 7;

export const SETTINGS_INITIAL_WINDOW_SIZE = 7;

export type Frame =
  | {
      readonly type: 'syn-stream';
      readonly streamId: number;
      readonly fin: boolean;
      readonly unidirectional: boolean;
      readonly headerBlock: Buffer;
    }
  | {
      readonly type: 'syn-reply' | 'headers';
      readonly streamId: number;
      readonly fin: boolean;
      readonly headerBlock: Buffer;
    }
  | { readonly type: 'rst-stream'; readonly streamId: number; readonly status: number }
  | { readonly type: 'settings'; readonly values: ReadonlyMap<number, number> }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'goaway'; readonly lastStreamId: number; readonly status: number }
  | { readonly type: 'window-update'; readonly streamId: number; readonly deltaBytes: number }
  /** One piece of a DATA frame; `fin` is on the last piece only. */
  | { readonly type: 'data'; readonly streamId: number; readonly bytes: Buffer; readonly fin: boolean };

const HEADER_BYTES = 8;
const VERSION = 3;
/** Far above any header block of a Kubernetes client. */
const MAX_CONTROL_BYTES = 64 * 1024;
const MAX_LENGTH = 0xffffff;

const SYN_STREAM = 1;
const SYN_REPLY = 2;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const HEADERS = 8;
const WINDOW_UPDATE = 9;

const broken = (what: string): MeshError => new MeshError('STREAM_PROTOCOL', `SPDY: ${what}`);

type DecoderState =
  | { readonly kind: 'header' }
  | { readonly kind: 'control'; readonly type: number; readonly flags: number; readonly lengthBytes: number }
  | { readonly kind: 'data'; readonly streamId: number; readonly fin: boolean; readonly leftBytes: number };

export class FrameDecoder {
  #state: DecoderState = { kind: 'header' };
  /** Bytes of a header or a control frame that is not complete yet. */
  #held: Buffer = Buffer.alloc(0);

  /** @throws MeshError STREAM_PROTOCOL; the connection cannot be read on after that. */
  push(chunk: Buffer): Frame[] {
    const frames: Frame[] = [];
    let rest = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    for (;;) {
      const used = this.#step(rest, frames);
      if (used === undefined) break;
      rest = rest.subarray(used);
    }
    // A copy, so that a few bytes do not hold a whole chunk.
    this.#held = Buffer.from(rest);
    return frames;
  }

  /** How many bytes one step took, or undefined when it needs more. */
  #step(bytes: Buffer, frames: Frame[]): number | undefined {
    const state = this.#state;
    switch (state.kind) {
      case 'header': {
        if (bytes.length < HEADER_BYTES) return undefined;
        this.#state = parseHeader(bytes, frames);
        return HEADER_BYTES;
      }
      case 'control': {
        if (bytes.length < state.lengthBytes) return undefined;
        const frame = parseControl(state.type, state.flags, bytes.subarray(0, state.lengthBytes));
        if (frame !== undefined) frames.push(frame);
        this.#state = { kind: 'header' };
        return state.lengthBytes;
      }
      case 'data': {
        if (bytes.length === 0) return undefined;
        const used = Math.min(bytes.length, state.leftBytes);
        const leftBytes = state.leftBytes - used;
        const { streamId } = state;
        const fin = state.fin && leftBytes === 0;
        frames.push({ type: 'data', streamId, bytes: bytes.subarray(0, used), fin });
        this.#state = leftBytes === 0 ? { kind: 'header' } : { ...state, leftBytes };
        return used;
      }
    }
  }
}

function parseHeader(bytes: Buffer, frames: Frame[]): DecoderState {
  const first = bytes.readUInt32BE(0);
  const flags = bytes.readUInt8(4);
  const lengthBytes = bytes.readUIntBE(5, 3);
  if (first >>> 31 === 0) {
    const streamId = first;
    if (streamId === 0) throw broken('DATA for stream 0');
    const fin = (flags & FLAG_FIN) !== 0;
    if (lengthBytes > 0) return { kind: 'data', streamId, fin, leftBytes: lengthBytes };
    frames.push({ type: 'data', streamId, bytes: Buffer.alloc(0), fin });
    return { kind: 'header' };
  }
  const version = (first >>> 16) & 0x7fff;
  if (version !== VERSION) throw broken(`a frame of version ${version}, not ${VERSION}`);
  if (lengthBytes > MAX_CONTROL_BYTES)
    throw broken(`a control frame of ${lengthBytes} bytes; the limit is ${MAX_CONTROL_BYTES}`);
  return { kind: 'control', type: first & 0xffff, flags, lengthBytes };
}

/** Undefined for frames of an unknown type, which are passed over (§2.2.1). */
function parseControl(type: number, flags: number, body: Buffer): Frame | undefined {
  const need = (leastBytes: number, exact = false): void => {
    if (body.length < leastBytes || (exact && body.length !== leastBytes))
      throw broken(`a control frame of type ${type} with ${body.length} bytes`);
  };
  const id = (at: number): number => body.readUInt32BE(at) & 0x7fffffff;
  const fin = (flags & FLAG_FIN) !== 0;
  switch (type) {
    case SYN_STREAM:
      need(10);
      return {
        type: 'syn-stream',
        streamId: id(0),
        fin,
        unidirectional: (flags & FLAG_UNIDIRECTIONAL) !== 0,
        headerBlock: Buffer.from(body.subarray(10)),
      };
    case SYN_REPLY:
    case HEADERS:
      need(4);
      return {
        type: type === HEADERS ? 'headers' : 'syn-reply',
        streamId: id(0),
        fin,
        headerBlock: Buffer.from(body.subarray(4)),
      };
    case RST_STREAM:
      need(8, true);
      return { type: 'rst-stream', streamId: id(0), status: body.readUInt32BE(4) };
    case SETTINGS: {
      need(4);
      const count = body.readUInt32BE(0);
      if (body.length !== 4 + count * 8) throw broken(`SETTINGS of ${count} entries in ${body.length} bytes`);
      const values = new Map<number, number>();
      for (let at = 4; at < body.length; at += 8)
        values.set(body.readUIntBE(at + 1, 3), body.readUInt32BE(at + 4));
      return { type: 'settings', values };
    }
    case PING:
      need(4, true);
      return { type: 'ping', id: body.readUInt32BE(0) };
    case GOAWAY:
      need(8, true);
      return { type: 'goaway', lastStreamId: id(0), status: body.readUInt32BE(4) };
    case WINDOW_UPDATE:
      need(8, true);
      return { type: 'window-update', streamId: id(0), deltaBytes: id(4) };
    default:
      return undefined;
  }
}

export function encodeFrame(frame: Frame): Buffer {
  switch (frame.type) {
    case 'data': {
      if (frame.bytes.length > MAX_LENGTH) throw new RangeError('a DATA frame holds less than 16 MiB');
      const header = Buffer.allocUnsafe(HEADER_BYTES);
      header.writeUInt32BE(frame.streamId, 0);
      header.writeUInt8(frame.fin ? FLAG_FIN : 0, 4);
      header.writeUIntBE(frame.bytes.length, 5, 3);
      return Buffer.concat([header, frame.bytes]);
    }
    case 'syn-stream': {
      const flags = (frame.fin ? FLAG_FIN : 0) | (frame.unidirectional ? FLAG_UNIDIRECTIONAL : 0);
      // Associated stream, priority and slot are 0.
      return control(SYN_STREAM, flags, words(frame.streamId, 0), Buffer.alloc(2), frame.headerBlock);
    }
    case 'syn-reply':
    case 'headers':
      return control(
        frame.type === 'headers' ? HEADERS : SYN_REPLY,
        frame.fin ? FLAG_FIN : 0,
        words(frame.streamId),
        frame.headerBlock,
      );
    case 'rst-stream':
      return control(RST_STREAM, 0, words(frame.streamId, frame.status));
    case 'settings':
      return control(SETTINGS, 0, words(frame.values.size, ...[...frame.values].flat()));
    case 'ping':
      return control(PING, 0, words(frame.id));
    case 'goaway':
      return control(GOAWAY, 0, words(frame.lastStreamId, frame.status));
    case 'window-update':
      return control(WINDOW_UPDATE, 0, words(frame.streamId, frame.deltaBytes));
  }
}

function words(...values: number[]): Buffer {
  const bytes = Buffer.allocUnsafe(values.length * 4);
  values.forEach((value, index) => {
    bytes.writeUInt32BE(value, index * 4);
  });
  return bytes;
}

function control(type: number, flags: number, ...parts: Buffer[]): Buffer {
  const lengthBytes = parts.reduce((sum, part) => sum + part.length, 0);
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header.writeUInt32BE((0x80000000 | (VERSION << 16) | type) >>> 0, 0);
  header.writeUInt8(flags, 4);
  header.writeUIntBE(lengthBytes, 5, 3);
  return Buffer.concat([header, ...parts]);
}
