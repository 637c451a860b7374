// Numbers of HBONE sessions (ztunnel.md §5.4).

import { MAX_STREAM_WINDOW_BYTES, TUNNEL_BUDGET_BYTES } from './http2/receive-budget.ts';

/** Of a stream while a tunnel has few; it shrinks with their number (http2/receive-budget.ts). */
export const STREAM_WINDOW_BYTES = MAX_STREAM_WINDOW_BYTES;
/** Four stream windows: with equal sizes one unread stream could starve the others. */
export const CONNECTION_WINDOW_BYTES = TUNNEL_BUDGET_BYTES;
/** MAX_HEADER_LIST_SIZE. */
export const CLIENT_HEADER_LIST_BYTES = 16_384;
export const SERVER_HEADER_LIST_BYTES = 65_536;

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
