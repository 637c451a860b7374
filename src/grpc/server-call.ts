// One call as a gRPC server sees it (PROTOCOL-HTTP2.md of the gRPC project): messages in, messages out, and a status at
// the end. What is sent is not copied: many calls may be given the same bytes.

import http2 from 'node:http2';
import { FRAME_PREFIX_BYTES, FrameDecoder } from './frames.ts';
import { encodeGrpcMessage, GRPC_INTERNAL, GRPC_OK, type GrpcStatus, statusOf } from './status.ts';

export type CallStatus = Omit<GrpcStatus, 'reached'>;

const RESPONSE_HEADERS = { ':status': 200, 'content-type': 'application/grpc' } as const;
const OK: CallStatus = { code: GRPC_OK, message: '' };

export class ServerCall {
  readonly #stream: http2.ServerHttp2Stream;
  readonly #headers: http2.IncomingHttpHeaders;
  #closed = false;
  #ended = false;

  constructor(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) {
    this.#stream = stream;
    this.#headers = headers;
    stream.once('close', () => {
      this.#closed = true;
    });
  }

  header(name: string): string | undefined {
    const value = this.#headers[name];
    return Array.isArray(value) ? value[0] : value;
  }

  get peer(): string {
    const { remoteAddress, remotePort } = this.#stream.session?.socket ?? {};
    return remoteAddress === undefined ? '' : `${remoteAddress}:${remotePort}`;
  }

  /** The client is gone, or the status has been sent. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Exactly once, however the call ended. */
  onClose(handler: () => void): void {
    if (this.#closed) handler();
    else this.#stream.once('close', handler);
  }

  /**
   * Begins to read: until then the client's window bounds what waits. What `message` throws ends the call.
   * `halfClosed`: the client has sent all that it will.
   */
  read(maxMessageBytes: number, message: (bytes: Uint8Array) => void, halfClosed: () => void): void {
    const frames = new FrameDecoder(maxMessageBytes);
    this.#stream.on('data', (chunk: Buffer) => {
      if (this.#ended) return;
      try {
        for (const bytes of frames.push(chunk)) if (!this.#ended) message(bytes);
      } catch (error) {
        this.end(statusOf(error));
      }
    });
    this.#stream.once('end', () => {
      if (this.#ended) return;
      if (frames.atBoundary) halfClosed();
      else this.end({ code: GRPC_INTERNAL, message: 'the stream ends in the middle of a message' });
    });
  }

  /** One message made of parts. `taken` is called when the client's window has taken it; never if the call ends before. */
  send(parts: readonly Uint8Array[], taken: () => void): void {
    if (this.#ended || this.#closed) return;
    const stream = this.#stream;
    if (!stream.headersSent) this.#respond();
    const prefix = Buffer.alloc(FRAME_PREFIX_BYTES);
    prefix.writeUInt32BE(
      parts.reduce((sum, part) => sum + part.length, 0),
      1,
    );
    stream.cork();
    stream.write(prefix);
    const last = parts.length - 1;
    parts.forEach((part, index) => {
      if (index < last) stream.write(part);
      else
        stream.write(part, (error) => {
          if (error === null || error === undefined) taken();
        });
    });
    stream.uncork();
  }

  /** After what has been sent. Without a status: all went well. */
  end(status: CallStatus = OK): void {
    if (this.#ended || this.#closed) return;
    this.#ended = true;
    const stream = this.#stream;
    const trailers = {
      'grpc-status': String(status.code),
      ...(status.message === '' ? {} : { 'grpc-message': encodeGrpcMessage(status.message) }),
    };
    if (!stream.headersSent) {
      stream.respond({ ...RESPONSE_HEADERS, ...trailers }, { endStream: true });
      this.#finish();
      return;
    }
    stream.once('wantTrailers', () => {
      stream.sendTrailers(trailers);
      this.#finish();
    });
    stream.end();
  }

  /** For a client that does not even take the status that ends the call. */
  reset(): void {
    // CANCEL: a node proxy comes back at once (ztunnel.md §3.5).
    if (!this.#closed) this.#stream.close(http2.constants.NGHTTP2_CANCEL);
  }

  /** Sends the headers early: a client that waits for them need not wait for the first message. */
  #respond(): void {
    this.#stream.respond(RESPONSE_HEADERS, { waitForTrailers: true });
  }

  /**
   * A status ends a call whether or not the client has finished sending (RFC 9113 §8.1): without the reset, a client that
   * never half-closes, as xDS clients do, would wait for the other direction.
   */
  #finish(): void {
    // What comes in after the status is dropped, or a paused stream would never close.
    this.#stream.resume();
    setImmediate(() => {
      if (!this.#closed) this.#stream.close(http2.constants.NGHTTP2_NO_ERROR);
    });
  }
}
