// What the xDS client needs of a gRPC stream, and nothing more: bytes out, bytes in, and how it ended.

export type StreamEnd =
  /** The server finished with status OK. */
  | { readonly kind: 'clean' }
  | { readonly kind: 'status'; readonly code: number; readonly message: string }
  /** No connection, or one that broke before the stream was accepted. */
  | { readonly kind: 'unreachable'; readonly message: string }
  /** Something on our side: a missing root file, an unreadable token. */
  | { readonly kind: 'local'; readonly message: string };

export interface StreamHandlers {
  /** One whole message. */
  message(bytes: Uint8Array): void;
  /** Always the last call, exactly once, unless we closed the stream ourselves. */
  end(end: StreamEnd): void;
}

export interface XdsStream {
  send(message: Uint8Array): void;
  /** No handler is called afterwards. */
  close(): void;
}

/** Opens the one bidirectional stream `DeltaAggregatedResources`; failures arrive at `handlers.end`. */
export type OpenXdsStream = (handlers: StreamHandlers) => XdsStream;
