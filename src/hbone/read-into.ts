// Reading a TLS socket into one buffer that all sockets share, as `onread` does it for plain ones. Node's options do not
// reach that far for a TLS socket over another socket, but its parts do: without them every record becomes a Buffer of its
// own, and the collector's work on those is a sixth of the CPU of a bulk transfer.

import type { Duplex } from 'node:stream';
import { lengthRead, type TlsHandle, tlsHandleOf } from './tls-insides.ts';

/**
 * Calls back with what arrives; the chunk is valid during the call only. Sockets of other kinds, and builds of Node whose
 * insides differ, are read by events.
 */
export function readInto(socket: Duplex, buffer: Buffer, onChunk: (chunk: Buffer) => void): void {
  const handle = tlsHandleOf(socket);
  // What was read before we came is in the socket's own queue, and must go first.
  if (handle === undefined || socket.readableLength > 0) {
    socket.on('data', onChunk);
    return;
  }
  // Node's own, to which the end and errors are left.
  const { onread } = handle;
  handle.onread = function (this: TlsHandle): void {
    const length = lengthRead();
    if (length <= 0) onread.call(this);
    else if (!socket.destroyed) onChunk(buffer.subarray(0, length));
  };
  handle.useUserBuffer(buffer);
  socket.resume();
}
