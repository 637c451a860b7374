// gRPC's length-prefixed messages: one byte of flags, four of length, then the message. Bytes in, whole messages out.
// Compression is not offered by our client, so a compressed message is a protocol error.

import { GRPC_INTERNAL, GRPC_RESOURCE_EXHAUSTED, grpcError } from './status.ts';

export const FRAME_PREFIX_BYTES = 5;

export function encodeFrame(message: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(FRAME_PREFIX_BYTES + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, FRAME_PREFIX_BYTES);
  return frame;
}

/** Holds at most one incomplete message. The chunks of a large message are joined once, when it is complete. */
export class FrameDecoder {
  readonly #maxMessageBytes: number;
  readonly #prefix = Buffer.alloc(FRAME_PREFIX_BYTES);
  #prefixBytes = 0;
  #messageBytes = 0;
  #chunks: Uint8Array[] = [];
  #chunkBytes = 0;

  constructor(maxMessageBytes: number) {
    this.#maxMessageBytes = maxMessageBytes;
  }

  /** The messages that this chunk completes. Throws MeshError `GRPC_STATUS`; the decoder is of no use afterwards. */
  push(chunk: Uint8Array): Uint8Array[] {
    const messages: Uint8Array[] = [];
    let at = 0;
    while (at < chunk.length) {
      if (this.#prefixBytes < FRAME_PREFIX_BYTES) {
        const taken = Math.min(FRAME_PREFIX_BYTES - this.#prefixBytes, chunk.length - at);
        this.#prefix.set(chunk.subarray(at, at + taken), this.#prefixBytes);
        this.#prefixBytes += taken;
        at += taken;
        if (this.#prefixBytes < FRAME_PREFIX_BYTES) break;
        this.#readPrefix();
      }
      const taken = Math.min(this.#messageBytes - this.#chunkBytes, chunk.length - at);
      if (taken > 0) {
        this.#chunks.push(chunk.subarray(at, at + taken));
        this.#chunkBytes += taken;
        at += taken;
      }
      if (this.#chunkBytes === this.#messageBytes) messages.push(this.#takeMessage());
    }
    return messages;
  }

  /** True between messages: an end of stream here loses nothing. */
  get atBoundary(): boolean {
    return this.#prefixBytes === 0;
  }

  #readPrefix(): void {
    const flags = this.#prefix[0]!;
    if (flags !== 0) {
      throw grpcError('reading a message', {
        code: GRPC_INTERNAL,
        message: `the frame carries flags ${flags}, but compression was not offered`,
      });
    }
    this.#messageBytes = this.#prefix.readUInt32BE(1);
    if (this.#messageBytes > this.#maxMessageBytes) {
      throw grpcError('reading a message', {
        code: GRPC_RESOURCE_EXHAUSTED,
        message: `a message of ${this.#messageBytes} bytes exceeds the limit of ${this.#maxMessageBytes}`,
      });
    }
  }

  #takeMessage(): Uint8Array {
    const message = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    this.#chunks = [];
    this.#chunkBytes = 0;
    this.#prefixBytes = 0;
    return message;
  }
}
