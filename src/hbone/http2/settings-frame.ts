// SETTINGS frames (RFC 9113 §6.5): reading with the checks that it asks for, writing.

import { FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, SessionError } from './errors.ts';
import { SETTINGS } from './frame-reader.ts';
import type { Outbox } from './outbox.ts';

export const SettingId = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

const ENTRY_BYTES = 6;
export const MAX_WINDOW_BYTES = 0x7fffffff;

/** Identifier → value, later entries winning; unknown identifiers are kept, for their reader to ignore. */
export function readSettings(payload: Buffer): Map<number, number> {
  if (payload.length % ENTRY_BYTES !== 0)
    throw new SessionError(FRAME_SIZE_ERROR, `a SETTINGS frame of ${payload.length} bytes`);
  const settings = new Map<number, number>();
  for (let at = 0; at < payload.length; at += ENTRY_BYTES) {
    const id = payload.readUInt16BE(at);
    const value = payload.readUInt32BE(at + 2);
    if (id === SettingId.enablePush && value > 1)
      throw new SessionError(PROTOCOL_ERROR, `ENABLE_PUSH is 0 or 1, not ${value}`);
    if (id === SettingId.initialWindowSize && value > MAX_WINDOW_BYTES)
      throw new SessionError(FLOW_CONTROL_ERROR, `an INITIAL_WINDOW_SIZE of ${value}`);
    if (id === SettingId.maxFrameSize && (value < 16_384 || value > 0xffffff))
      throw new SessionError(PROTOCOL_ERROR, `a MAX_FRAME_SIZE of ${value}`);
    settings.set(id, value);
  }
  return settings;
}

export function writeSettings(
  outbox: Outbox,
  settings: readonly (readonly [id: number, value: number])[],
): void {
  outbox.frame(SETTINGS, 0, 0, settings.length * ENTRY_BYTES);
  for (const [id, value] of settings) {
    outbox.uint16(id);
    outbox.uint32(value);
  }
}
