// Network namespaces as file descriptors: open, compare, run a short synchronous piece of work inside.
// Nothing asynchronous can happen between entering and leaving: the thread would serve other code in a foreign namespace.

import { fstatSync } from 'node:fs';
import { MeshError } from '#base/errors.ts';
import { check, F_DUPFD_CLOEXEC, lastErrno, libc, O_CLOEXEC, O_RDONLY, syscallError } from './libc.ts';

const CLONE_NEWNET = 0x40000000;
/** ioctl_ns(2): which kind of namespace a descriptor is. */
const NS_GET_NSTYPE = 0xb703;

/**
 * A descriptor (close-on-exec) of the network namespace that `path` names: a bind mount (`/var/run/netns/NAME`) or
 * `/proc/PID/ns/net`.
 * @throws MeshError `NETNS_GONE` when the path is missing or is no (longer a) network namespace; `SYSCALL_FAILED`.
 */
export function openNetns(path: string): number {
  const fd = libc.open(path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) {
    const errno = lastErrno();
    const gone = errno === 'ENOENT' || errno === 'ESRCH' || errno === 'ENOTDIR';
    throw syscallError('open', errno, `network namespace ${path}`, gone ? 'NETNS_GONE' : 'SYSCALL_FAILED');
  }
  const kind = libc.ioctl(fd, NS_GET_NSTYPE, 0);
  // An unmounted pin leaves an ordinary empty file behind.
  if (kind === CLONE_NEWNET) return fd;
  closeFd(fd);
  throw new MeshError('NETNS_GONE', `${path} is not a network namespace (any more); was it unmounted?`, {
    details: { path },
  });
}

/** Two descriptors are the same namespace when both numbers are equal; the inode alone is not enough. */
export interface NetnsId {
  readonly dev: bigint;
  readonly ino: bigint;
}

export function netnsId(fd: number): NetnsId {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return { dev, ino };
}

export function sameNetns(left: NetnsId, right: NetnsId): boolean {
  return left.dev === right.dev && left.ino === right.ino;
}

// The thread's own namespace, opened at first use and never changed; and whether we are away from it. Both belong to
// the thread (each worker has its own copy of this module), as the kernel's own setting does.
let homeFd = -1;
let isAway = false;

/**
 * Runs `run` with the calling thread inside the namespace. Synchronous work only, and as little as possible: a socket
 * keeps the namespace it was made in, so `socket()` alone usually suffices.
 * If the way back fails, the process ends: everything it did afterwards would happen in the wrong network.
 * @throws MeshError `NETNS_GONE` when the descriptor is no namespace, `SYSCALL_FAILED`, or whatever `run` throws.
 */
export function inNetns<T>(fd: number, run: () => T): T {
  if (isAway) throw new TypeError('inNetns does not nest');
  if (homeFd < 0) homeFd = openNetns('/proc/thread-self/ns/net');
  if (libc.setns(fd, CLONE_NEWNET) < 0) {
    const errno = lastErrno();
    const gone = errno === 'EINVAL' || errno === 'EBADF';
    throw syscallError(
      'setns',
      errno,
      'entering a network namespace',
      gone ? 'NETNS_GONE' : 'SYSCALL_FAILED',
    );
  }
  isAway = true;
  let result: T;
  try {
    result = run();
  } finally {
    if (libc.setns(homeFd, CLONE_NEWNET) < 0) {
      process.stderr.write('cannot return to the own network namespace; ending the process\n');
      process.abort();
    }
    isAway = false;
  }
  if (result instanceof Promise) throw new TypeError('inNetns runs synchronous work only');
  return result;
}

export function closeFd(fd: number): void {
  check(libc.close(fd), 'close', `descriptor ${fd}`);
}

/** A second descriptor (close-on-exec) of the same thing, to be closed separately. */
export function dupFd(fd: number): number {
  return check(libc.fcntl(fd, F_DUPFD_CLOEXEC, 0), 'fcntl', `duplicating descriptor ${fd}`);
}
