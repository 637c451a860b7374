// Small frames of fixed form, read and checked (RFC 9113 §6.4, §6.7–6.9). Everything throws SessionError.

import { FRAME_SIZE_ERROR, PROTOCOL_ERROR, SessionError } from './errors.ts';

export function wrongSize(what: string, payload: Buffer): SessionError {
  return new SessionError(FRAME_SIZE_ERROR, `${what} of ${payload.length} bytes`);
}

export function onSessionOnly(what: string, streamId: number): void {
  if (streamId !== 0) throw new SessionError(PROTOCOL_ERROR, `${what} on stream ${streamId}`);
}

export function onStreamOnly(what: string, streamId: number): void {
  if (streamId === 0) throw new SessionError(PROTOCOL_ERROR, `${what} on the session itself`);
}

/** Bytes of further credit; 0 is an error whose reach the caller knows. */
export function readWindowUpdate(payload: Buffer): number {
  if (payload.length !== 4) throw wrongSize('WINDOW_UPDATE', payload);
  return payload.readUInt32BE(0) & 0x7fffffff;
}

export function readReset(streamId: number, payload: Buffer): number {
  onStreamOnly('RST_STREAM', streamId);
  if (payload.length !== 4) throw wrongSize('RST_STREAM', payload);
  return payload.readUInt32BE(0);
}

export function checkPriority(streamId: number, payload: Buffer): void {
  onStreamOnly('PRIORITY', streamId);
  if (payload.length !== 5) throw wrongSize('PRIORITY', payload);
}

export function checkPing(streamId: number, payload: Buffer): void {
  onSessionOnly('PING', streamId);
  if (payload.length !== 8) throw wrongSize('PING', payload);
}

export interface Goaway {
  readonly lastStreamId: number;
  readonly code: number;
  /** What the peer says beside the code, if it is printable. */
  readonly why: string;
}

export function readGoaway(streamId: number, payload: Buffer): Goaway {
  onSessionOnly('GOAWAY', streamId);
  if (payload.length < 8) throw wrongSize('GOAWAY', payload);
  const text = payload.toString('latin1', 8, 8 + 200);
  return {
    lastStreamId: payload.readUInt32BE(0) & 0x7fffffff,
    code: payload.readUInt32BE(4),
    why: /^[ -~]+$/.test(text) ? text : '',
  };
}
