// HBONE as the rest of Culvert sees it: CONNECT streams over mutually authenticated sessions. One interface; the codec
// behind it may change. Callback-style on purpose: per chunk there is no promise, no event object and no closure.

import type { MeshError } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { SocketAddress } from '#net/host-port.ts';

/** How a stream or session ended. `clean` is END_STREAM both ways, or a reset with NO_ERROR or CANCEL (ztunnel.md §5.6). */
export interface StreamOutcome {
  readonly clean: boolean;
  /** An operator's sentence when not clean. */
  readonly reason?: string;
  /** Where the reason has a code of its own. */
  readonly error?: MeshError;
}

/** Receives what a stream reads. Set once with `attach`; nothing is delivered before that. */
export interface StreamSink {
  /** The chunk is the reader's own buffer, and valid during the call only. */
  data(chunk: Uint8Array): void;
  /** The session is full, of others' bytes: as if `write` had returned false. What is written nevertheless is taken. */
  hold?(): void;
  /** `write` returned false or `hold` was called earlier, and `write` may be called again. */
  drain(): void;
  /** The peer finished sending (half-close). */
  end(): void;
  /** Both directions are over; always the last call, exactly once. */
  close(outcome: StreamOutcome): void;
}

/** One CONNECT stream: bytes both ways with half-close and back-pressure. */
export interface HboneStream {
  attach(sink: StreamSink): void;
  /** False: the peer is slower than we are; stop until `drain`. The chunk was taken all the same, and copied where it waits. */
  write(chunk: Uint8Array): boolean;
  /** Half-close: END_STREAM after everything written. */
  end(): void;
  /** Stop delivering; the stream's flow-control window then holds the peer back. */
  pause(): void;
  resume(): void;
  /** RST_STREAM; the peer sees a truncated stream. */
  reset(code: 'NO_ERROR' | 'CANCEL' | 'INTERNAL_ERROR' | 'REFUSED_STREAM'): void;
}

/** Header names in lower case. Only ordinary headers: no pseudo-headers. */
export type HboneHeaders = Readonly<Record<string, string>>;

export interface HbonePeer {
  /** First URI SAN that parses as a workload identity; undefined when the certificate has none. */
  readonly identity: SpiffeId | undefined;
  readonly address: SocketAddress;
}

/** What the server hands to its owner for each CONNECT. Exactly one of `accept` and `refuse` is to be called. */
export interface HboneRequest {
  readonly authority: string;
  readonly headers: HboneHeaders;
  readonly peer: HbonePeer;
  /** 200, and the stream is open. */
  accept(headers: HboneHeaders): HboneStream;
  /** 4xx or 5xx with END_STREAM, no body (ztunnel.md §5.2). */
  refuse(status: 400 | 401 | 503): void;
  /** Runs when the peer gives up before `accept` or `refuse`. */
  onAbort(run: () => void): void;
}

export interface HboneTunnel {
  readonly stream: HboneStream;
  /** Headers of the 200. */
  readonly headers: HboneHeaders;
  readonly peer: HbonePeer;
}

/** Which pooled sessions may carry a stream: all four must be equal (ztunnel.md §5.5). */
export interface PoolKey {
  readonly source: SpiffeId;
  readonly expected: readonly SpiffeId[];
  readonly destination: SocketAddress;
  readonly downstreamIp: string;
}

/** Outbound sessions of one pod. `client.ts` and `pool.ts` make it with `createHbonePool`. */
export interface HbonePool {
  /**
   * Opens a CONNECT stream on a pooled or new session. Rejects with MeshError: `CONNECT_FAILED`, `CONNECT_TIMEOUT`,
   * `IDENTITY_UNAVAILABLE`, `TLS_HANDSHAKE_FAILED`, `PEER_IDENTITY_MISMATCH`, `CERTIFICATE_REVOKED`, `HBONE_REFUSED`
   * (details.status), `HBONE_PROTOCOL`.
   */
  connect(key: PoolKey, authority: string, headers: HboneHeaders): Promise<HboneTunnel>;
  readonly sessionCount: number;
  close(): void;
}

/** The inbound side of one pod: takes accepted TCP sockets, does TLS and HTTP/2, hands out CONNECT requests. */
export interface HboneServer {
  /** The socket is owned by the server from now on. */
  accept(socket: import('node:net').Socket): void;
  /** GOAWAY on every session, also on those whose handshake is under way; streams may finish. */
  drain(): void;
  /** Connections with or without a session yet. */
  readonly liveCount: number;
  /** Ends every session at once. */
  close(): void;
}
