// What Node's TLS sockets are inside, for those who move bytes through them without node:stream: an inner handle that reads
// and writes, and what it told last. Undefined for sockets of other kinds and for builds of Node whose insides differ, whose
// users then do what everybody does.

import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { newWriteRequest, STREAM_LENGTH, streamState, type WriteRequest } from '#linux/tcp-handle.ts';

/** Node's TLSWrap. */
export interface TlsHandle {
  onread: (this: TlsHandle) => void;
  useUserBuffer(buffer: Buffer): void;
  /** Zero, or an errno below it. The bytes are encrypted, or copied, when it returns. */
  writeBuffer(request: WriteRequest, bytes: Uint8Array): number;
}

export function tlsHandleOf(socket: Duplex): TlsHandle | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const handle = (socket as unknown as { readonly _handle?: Partial<TlsHandle> | null })._handle;
  const isWhole =
    typeof handle?.onread === 'function' &&
    typeof handle.useUserBuffer === 'function' &&
    typeof handle.writeBuffer === 'function' &&
    newWriteRequest().writeStatus === null;
  return isWhole ? (handle as TlsHandle) : undefined;
}

/** Of the read that `onread` is called for: bytes, or an errno below zero. */
export function lengthRead(): number {
  return streamState[STREAM_LENGTH]!;
}
