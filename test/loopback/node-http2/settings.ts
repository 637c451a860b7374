// The settings of ztunnel.md §5.4 for node:http2, and the limits that it needs besides.

import type { ClientSessionOptions, ServerSessionOptions } from 'node:http2';
import { STREAM_WINDOW_BYTES } from '#hbone/settings.ts';

const MIB = 1 << 20;

const SHARED_OPTIONS = {
  // node:http2 counts what waits to be sent, too: 10 MB, its default, would fail new streams beside a slow one.
  maxSessionMemory: 128,
  // Every CANCEL of an honest peer counts as a reset; the defaults (1000, 33/s) would end whole sessions.
  streamResetBurst: 10_000,
  streamResetRate: 1_000,
  // Streams closed within one read linger for a turn and may be refused; that must not end the session.
  maxSessionRejectedStreams: 1000,
} as const;

export function serverSessionOptions(maxStreams: number): ServerSessionOptions {
  return {
    ...SHARED_OPTIONS,
    settings: {
      initialWindowSize: STREAM_WINDOW_BYTES,
      maxFrameSize: MIB,
      maxHeaderListSize: 65_536,
      maxConcurrentStreams: maxStreams,
    },
  };
}

export function clientSessionOptions(): ClientSessionOptions {
  return {
    ...SHARED_OPTIONS,
    settings: {
      enablePush: false,
      initialWindowSize: STREAM_WINDOW_BYTES,
      maxFrameSize: MIB,
      maxHeaderListSize: 16_384,
    },
  };
}
