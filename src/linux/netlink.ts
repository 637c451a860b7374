// Netlink: one request to the kernel's network side in a chosen namespace, and its whole answer (man 7 netlink).
// Requests are synchronous: the socket blocks, but the kernel never makes it wait.

import { readSync, writeSync } from 'node:fs';
import { MeshError } from '#base/errors.ts';
import { check, libc, SOCK_CLOEXEC } from './libc.ts';
import { closeFd, inNetns } from './netns.ts';

export const AF_NETLINK = 16;
export const SOCK_RAW = 3;
export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_NETFILTER = 12;

export const NLM_REQUEST = 1;
export const NLM_ACK = 4;
export const NLM_REPLACE = 0x100;
export const NLM_EXCLUSIVE = 0x200;
export const NLM_CREATE = 0x400;
export const NLM_DUMP = 0x300;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const HEADER_BYTES = 16;
/** Together with as many refusals less than the socket's buffers hold. */
const BATCH = 256;
/** More than the kernel puts into one message of a dump. */
const READ_BYTES = 64 * 1024;

export const ENOENT = 2;
export const EEXIST = 17;

export interface NetlinkRequest {
  readonly type: number;
  readonly flags: number;
  readonly body: Buffer;
  /** Errors that are as good as success: what was asked for is so already. */
  readonly accepted?: readonly number[];
}

export interface Netlink {
  /** The payloads of the answer, headers taken off. @throws MeshError `SYSCALL_FAILED` with the kernel's errno. */
  request(request: NetlinkRequest): Buffer[];
  /** Many that answer nothing, a few hundred in each call. @throws MeshError `SYSCALL_FAILED` for the first that is refused. */
  requestAll(requests: readonly NetlinkRequest[]): void;
}

/** Runs `use` with a netlink socket of the namespace (the thread's own if undefined), and closes it. @throws MeshError SYSCALL_FAILED. */
export function withNetlink<T>(
  netnsFd: number | undefined,
  protocol: number,
  context: string,
  use: (netlink: Netlink) => T,
): T {
  const open = (): number =>
    check(libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), 'socket', context);
  const fd = netnsFd === undefined ? open() : inNetns(netnsFd, open);
  try {
    return use({
      request({ type, flags, body, accepted = [] }) {
        writeSync(fd, message(type, flags | NLM_REQUEST, body));
        return readAnswer(fd, accepted, context);
      },
      requestAll(requests) {
        for (let at = 0; at < requests.length; at += BATCH) {
          const batch = requests.slice(at, at + BATCH);
          const last = batch.length - 1;
          const messages = batch.map(({ type, flags, body }, index) =>
            // Refusals come unasked; the answer to the last tells that there are no more.
            message(type, flags | NLM_REQUEST | (index === last ? NLM_ACK : 0), body, index),
          );
          writeSync(fd, Buffer.concat(messages));
          readRefusals(fd, batch, context);
        }
      },
    });
  } catch (error) {
    throw MeshError.from(error, 'SYSCALL_FAILED', context);
  } finally {
    closeFd(fd);
  }
}

function message(type: number, flags: number, body: Buffer, sequence = 0): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUInt32LE(HEADER_BYTES + body.length, 0);
  head.writeUInt16LE(type, 4);
  head.writeUInt16LE(flags, 6);
  head.writeUInt32LE(sequence, 8);
  return Buffer.concat([head, body]);
}

function readAnswer(fd: number, accepted: readonly number[], context: string): Buffer[] {
  const payloads: Buffer[] = [];
  for (;;) {
    const buffer = Buffer.alloc(READ_BYTES);
    const length = readSync(fd, buffer, 0, READ_BYTES, null);
    for (let at = 0; at + HEADER_BYTES <= length; ) {
      const size = buffer.readUInt32LE(at);
      const type = buffer.readUInt16LE(at + 4);
      if (type === NLMSG_DONE) return payloads;
      if (type === NLMSG_ERROR) {
        checkErrno(buffer, at, accepted, context);
        return payloads;
      }
      payloads.push(buffer.subarray(at + HEADER_BYTES, at + size));
      at += (size + 3) & ~3;
    }
  }
}

/** Until the last of the batch is answered. */
function readRefusals(fd: number, batch: readonly NetlinkRequest[], context: string): void {
  for (;;) {
    const buffer = Buffer.alloc(READ_BYTES);
    const length = readSync(fd, buffer, 0, READ_BYTES, null);
    for (let at = 0; at + HEADER_BYTES <= length; at += (buffer.readUInt32LE(at) + 3) & ~3) {
      const sequence = buffer.readUInt32LE(at + 8);
      checkErrno(buffer, at, batch[sequence]?.accepted ?? [], context);
      if (sequence === batch.length - 1) return;
    }
  }
}

/** Of a message of type NLMSG_ERROR; 0 acknowledges. */
function checkErrno(buffer: Buffer, at: number, accepted: readonly number[], context: string): void {
  const errno = -buffer.readInt32LE(at + HEADER_BYTES);
  if (errno === 0 || accepted.includes(errno)) return;
  throw new MeshError('SYSCALL_FAILED', `${context}: the kernel answers with errno ${errno}`, {
    details: { errno },
  });
}

const NESTED = 0x8000;
const TYPE_MASK = 0x3fff;
const ATTRIBUTE_HEADER_BYTES = 4;

/** One attribute, padded to four bytes. */
export function attribute(type: number, value: Uint8Array): Buffer {
  const head = Buffer.alloc(ATTRIBUTE_HEADER_BYTES);
  head.writeUInt16LE(ATTRIBUTE_HEADER_BYTES + value.length, 0);
  head.writeUInt16LE(type, 2);
  return Buffer.concat([head, value, Buffer.alloc(-value.length & 3)]);
}

export function nested(type: number, ...attributes: readonly Uint8Array[]): Buffer {
  return attribute(type | NESTED, Buffer.concat(attributes));
}

/** By type; the last of a kind wins. */
export function attributesOf(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + ATTRIBUTE_HEADER_BYTES <= bytes.length; ) {
    const size = bytes.readUInt16LE(at);
    if (size < ATTRIBUTE_HEADER_BYTES) break;
    found.set(bytes.readUInt16LE(at + 2) & TYPE_MASK, bytes.subarray(at + ATTRIBUTE_HEADER_BYTES, at + size));
    at += (size + 3) & ~3;
  }
  return found;
}
