// Numbers of HBONE sessions: HTTP/2 settings of ztunnel.md §5.4, and the limits that node:http2 needs besides.

import type { ClientSessionOptions, ServerSessionOptions } from 'node:http2';

const MIB = 1 << 20;

export const STREAM_WINDOW_BYTES = 4 * MIB;
/** Four stream windows: with equal sizes one unread stream could starve the others (ztunnel.md §5.4). */
export const CONNECTION_WINDOW_BYTES = 16 * MIB;

/** Limits of one session that both ends share. */
export interface SessionLimits {
  /** TLS, from the first byte to the finished handshake. The field has no limit; a peer could hold a socket for ever. */
  readonly handshakeTimeoutMs: number;
  /** Pause between an answered PING and the next one. */
  readonly pingIntervalMs: number;
  /** Without an answer for so long the session is dead. */
  readonly pingTimeoutMs: number;
}

export const SESSION_LIMITS: SessionLimits = {
  handshakeTimeoutMs: 10_000,
  pingIntervalMs: 10_000,
  pingTimeoutMs: 20_000,
};

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
