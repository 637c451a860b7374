// The C library as this folder sees it: typed calls, errno turned into MeshError, one scratch area for message headers.
// No policy here, and nothing outside src/linux imports this file.

import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import type { ErrorCode } from '#base/error-codes.ts';
import { MeshError } from '#base/errors.ts';

const library = koffi.load('libc.so.6');

/** Native call declarations; the casts are the only place where their types are told. */
export const libc = {
  open: library.func('int open(const char *path, int flags, int mode)') as (
    path: string,
    flags: number,
    mode: number,
  ) => number,
  close: library.func('int close(int fd)') as (fd: number) => number,
  fcntl: library.func('int fcntl(int fd, int command, long argument)') as (
    fd: number,
    command: number,
    argument: number,
  ) => number,
  ioctl: library.func('int ioctl(int fd, unsigned long request, long argument)') as (
    fd: number,
    request: number,
    argument: number,
  ) => number,
  /** The same call where the argument is memory. */
  ioctlAt: library.func('int ioctl(int fd, unsigned long request, void *argument)') as (
    fd: number,
    request: number,
    argument: Uint8Array,
  ) => number,
  /** For memory that no view of ours lies over: by its address. */
  madvise: library.func('int madvise(uintptr_t start, size_t bytes, int advice)') as (
    start: number,
    bytes: number,
    advice: number,
  ) => number,
  malloc_trim: library.func('int malloc_trim(size_t pad)') as (padBytes: number) => number,
  /** Three arguments at most; what a call takes fewer of is not looked at. */
  syscall: library.func('long syscall(long number, long first, long second, long third)') as (
    number: number,
    first: number,
    second: number,
    third: number,
  ) => number,
  pipe2: library.func('int pipe2(void *fds, int flags)') as (fds: Uint8Array, flags: number) => number,
  setns: library.func('int setns(int fd, int type)') as (fd: number, type: number) => number,
  socket: library.func('int socket(int family, int type, int protocol)') as (
    family: number,
    type: number,
    protocol: number,
  ) => number,
  bind: library.func('int bind(int fd, const void *address, unsigned int length)') as AddressCall,
  connect: library.func('int connect(int fd, const void *address, unsigned int length)') as AddressCall,
  listen: library.func('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number,
  accept4: library.func('int accept4(int fd, void *address, void *length, int flags)') as (
    fd: number,
    address: null,
    length: null,
    flags: number,
  ) => number,
  setsockopt: library.func(
    'int setsockopt(int fd, int level, int name, const void *value, unsigned int length)',
  ) as (fd: number, level: number, name: number, value: Uint8Array, length: number) => number,
  getsockopt: library.func('int getsockopt(int fd, int level, int name, void *value, void *length)') as (
    fd: number,
    level: number,
    name: number,
    value: Uint8Array,
    length: Uint8Array,
  ) => number,
  prctl: library.func(
    'int prctl(int option, uint64_t second, uint64_t third, uint64_t fourth, uint64_t fifth)',
  ) as (option: number, second: bigint, third: bigint, fourth: bigint, fifth: bigint) => number,
  sendmsg: library.func('long sendmsg(int fd, const void *message, int flags)') as MessageCall,
  recvmsg: library.func('long recvmsg(int fd, void *message, int flags)') as MessageCall,
};

type AddressCall = (fd: number, address: Uint8Array, length: number) => number;
type MessageCall = (fd: number, message: bigint, flags: number) => number;

/** asm-generic values; the same on x86_64 and aarch64. */
export const MADV_DONTNEED = 4;
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_NOCTTY = 0o400;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const F_DUPFD_CLOEXEC = 1030;
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_SEQPACKET = 5;
export const SOCK_CLOEXEC = 0o2000000;
export const SOCK_NONBLOCK = 0o4000;
export const SOL_SOCKET = 1;
export const SOL_IP = 0;
export const SOL_IPV6 = 41;

/** The errno of the call just made. To be read before anything else runs. */
export function lastErrno(): string {
  const errno = koffi.errno();
  return errno > 0 ? getSystemErrorName(-errno) : 'EUNKNOWN';
}

/** What a call returned, or the failure as a MeshError whose cause carries the errno (for `errnoOf`). */
export function check(result: number, call: string, context: string): number {
  if (result >= 0) return result;
  const errno = lastErrno();
  throw syscallError(call, errno, context);
}

export function syscallError(
  call: string,
  errno: string,
  context: string,
  code: ErrorCode = 'SYSCALL_FAILED',
): MeshError {
  const cause: NodeJS.ErrnoException = new Error(`${call}: ${errno}`);
  cause.code = errno;
  cause.syscall = call;
  return new MeshError(code, `${context}: ${call} failed with ${errno}${remedy(errno)}`, {
    cause,
    details: { call, errno },
  });
}

function remedy(errno: string): string {
  if (errno === 'EPERM') return ' (the process lacks CAP_SYS_ADMIN or CAP_NET_ADMIN)';
  if (errno === 'EMFILE') return ' (raise the limit of open files: ulimit -n)';
  return '';
}

/** Memory that never moves, with its address: buffers of V8 may move, or are moved when small. */
export interface PinnedMemory {
  readonly address: bigint;
  readonly bytes: Buffer;
}

export function pinnedMemory(lengthBytes: number): PinnedMemory {
  const address = koffi.alloc('uint8_t', lengthBytes) as bigint;
  return { address, bytes: Buffer.from(koffi.view(address, lengthBytes)) };
}

/** Off the V8 heap from the first byte (allocUnsafeSlow of more than 64 bytes), so its address holds during a call. */
const CALL_BUFFERS = [Buffer.allocUnsafeSlow(128), Buffer.allocUnsafeSlow(128)] as const;

/** For one call and what it returns, zeroed; a call that takes two asks for the second one as well. */
export function callBuffer(which: 0 | 1 = 0): Buffer {
  return CALL_BUFFERS[which].fill(0);
}
