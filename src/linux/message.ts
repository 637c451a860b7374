// sendmsg and recvmsg: one message with its descriptors (SCM_RIGHTS), without waiting.

import { MeshError } from '#base/errors.ts';
import { lastErrno, libc, pinnedMemory, SOL_SOCKET, syscallError } from './libc.ts';
import { closeFd } from './netns.ts';

const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** Longest message either way; the peers' buffers hold 1024 (cni.md A.12.1). */
export const MAX_MESSAGE_BYTES = 4096;

// One message header for the process: every use is one synchronous call that starts by writing all of it.
const HEADER = { message: 0, vector: 64, control: 128, data: 512 } as const;
const CONTROL_BYTES = HEADER.data - HEADER.control;
/** struct cmsghdr on 64-bit Linux: length (8), level (4), type (4), then the descriptors. */
const CMSG_HEADER_BYTES = 16;
const arena = pinnedMemory(HEADER.data + MAX_MESSAGE_BYTES);

/** struct msghdr: name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48. */
function prepareHeader(dataBytes: number, controlBytes: number): void {
  const { address, bytes } = arena;
  bytes.fill(0, 0, HEADER.control);
  bytes.writeBigUInt64LE(address + BigInt(HEADER.vector), HEADER.message + 16);
  bytes.writeBigUInt64LE(1n, HEADER.message + 24);
  bytes.writeBigUInt64LE(controlBytes === 0 ? 0n : address + BigInt(HEADER.control), HEADER.message + 32);
  bytes.writeBigUInt64LE(BigInt(controlBytes), HEADER.message + 40);
  bytes.writeBigUInt64LE(address + BigInt(HEADER.data), HEADER.vector);
  bytes.writeBigUInt64LE(BigInt(dataBytes), HEADER.vector + 8);
}

/** Sends without waiting; the descriptor stays the caller's. */
export function transmit(
  fd: number,
  path: string,
  message: Uint8Array,
  sentFd: number | undefined,
): 'sent' | 'again' | MeshError {
  const { address, bytes } = arena;
  // CMSG_SPACE(4): the descriptor is padded to eight bytes; CMSG_LEN(4) is not.
  prepareHeader(message.length, sentFd === undefined ? 0 : CMSG_HEADER_BYTES + 8);
  bytes.set(message, HEADER.data);
  if (sentFd !== undefined) {
    bytes.writeBigUInt64LE(BigInt(CMSG_HEADER_BYTES + 4), HEADER.control);
    bytes.writeInt32LE(SOL_SOCKET, HEADER.control + 8);
    bytes.writeInt32LE(SCM_RIGHTS, HEADER.control + 12);
    bytes.writeInt32LE(sentFd, HEADER.control + 16);
    bytes.writeInt32LE(0, HEADER.control + 20);
  }
  if (Number(libc.sendmsg(fd, address, MSG_DONTWAIT | MSG_NOSIGNAL)) >= 0) return 'sent';
  const errno = lastErrno();
  if (errno === 'EAGAIN' || errno === 'EINTR') return 'again';
  return syscallError('sendmsg', errno, `sending on ${path}`);
}

export type Received =
  | { readonly kind: 'message'; readonly message: Uint8Array; readonly fds: number[] }
  | { readonly kind: 'nothing' }
  | { readonly kind: 'end' }
  | { readonly kind: 'failed'; readonly error: MeshError };

/** Takes one message, if there is one; its descriptors are the caller's. */
export function receive(fd: number, path: string): Received {
  prepareHeader(MAX_MESSAGE_BYTES, CONTROL_BYTES);
  const length = Number(libc.recvmsg(fd, arena.address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  if (length < 0) {
    const errno = lastErrno();
    if (errno === 'EAGAIN' || errno === 'EINTR') return { kind: 'nothing' };
    // The peer closed with our message unread: an end like any other.
    if (errno === 'ECONNRESET') return { kind: 'end' };
    return { kind: 'failed', error: syscallError('recvmsg', errno, `receiving on ${path}`) };
  }
  const flags = arena.bytes.readInt32LE(HEADER.message + 48);
  const fds = receivedFds();
  if ((flags & (MSG_TRUNC | MSG_CTRUNC)) !== 0) {
    for (const received of fds) closeFd(received);
    return {
      kind: 'failed',
      error: new MeshError(
        'ZDS_PROTOCOL',
        `a message on ${path} was truncated: longer than ${MAX_MESSAGE_BYTES} bytes`,
      ),
    };
  }
  // A zero-length packet cannot be told from the end of the connection; the protocol has none.
  if (length === 0) {
    for (const received of fds) closeFd(received);
    return { kind: 'end' };
  }
  return {
    kind: 'message',
    message: Uint8Array.from(arena.bytes.subarray(HEADER.data, HEADER.data + length)),
    fds,
  };
}

function receivedFds(): number[] {
  const { bytes } = arena;
  const fds: number[] = [];
  const end = HEADER.control + Number(bytes.readBigUInt64LE(HEADER.message + 40));
  for (let at: number = HEADER.control; at + CMSG_HEADER_BYTES <= end; ) {
    const lengthBytes = Number(bytes.readBigUInt64LE(at));
    if (lengthBytes < CMSG_HEADER_BYTES) break;
    if (bytes.readInt32LE(at + 8) === SOL_SOCKET && bytes.readInt32LE(at + 12) === SCM_RIGHTS) {
      for (let fdAt = at + CMSG_HEADER_BYTES; fdAt + 4 <= at + lengthBytes; fdAt += 4)
        fds.push(bytes.readInt32LE(fdAt));
    }
    at += (lengthBytes + 7) & ~7;
  }
  return fds;
}
