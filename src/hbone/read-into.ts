// Reading a TLS socket into one buffer that all sockets share, as `onread` does it for plain ones. Node's options do not
// reach that far for a TLS socket over another socket, but its parts do: without them every record becomes a Buffer of its
// own, and the collector's work on those is a sixth of the CPU of a bulk transfer.

import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';

/** Node's own (lib/internal/stream_base_commons.js): symbols of the socket, and a method of its handle. */
interface StreamHandle {
  useUserBuffer(buffer: Buffer): void;
}
type OnBuffer = (length: number, buffer: Buffer) => boolean;

/**
 * Calls back with what arrives; the chunk is valid during the call only. Sockets of other kinds, and builds of Node whose
 * insides differ, are read by events.
 */
export function readInto(socket: Duplex, buffer: Buffer, onChunk: (chunk: Buffer) => void): void {
  const parts = socket instanceof TLSSocket ? insidesOf(socket) : undefined;
  // What was read before we came is in the socket's own queue, and must go first.
  if (parts === undefined || socket.readableLength > 0) {
    socket.on('data', onChunk);
    return;
  }
  const onBuffer: OnBuffer = (length) => {
    onChunk(buffer.subarray(0, length));
    return true;
  };
  const slots = socket as unknown as Record<symbol, unknown>;
  slots[parts.bufferSlot] = buffer;
  slots[parts.callbackSlot] = onBuffer;
  parts.handle.useUserBuffer(buffer);
  socket.resume();
}

interface Insides {
  readonly handle: StreamHandle;
  readonly bufferSlot: symbol;
  readonly callbackSlot: symbol;
}

function insidesOf(socket: TLSSocket): Insides | undefined {
  const symbols = Object.getOwnPropertySymbols(socket);
  const slot = (name: string): symbol | undefined => symbols.find(({ description }) => description === name);
  const bufferSlot = slot('kBuffer');
  const callbackSlot = slot('kBufferCb');
  const handle = (socket as unknown as { readonly _handle?: Partial<StreamHandle> })._handle;
  if (bufferSlot === undefined || callbackSlot === undefined || typeof handle?.useUserBuffer !== 'function')
    return undefined;
  return { handle: handle as StreamHandle, bufferSlot, callbackSlot };
}
