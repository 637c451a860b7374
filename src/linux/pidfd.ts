// A descriptor that another process holds, as one of our own: for what cannot be opened again by a path, such as the master of a
// terminal.

import { check, libc } from './libc.ts';
import { closeFd } from './netns.ts';

/** pidfd_open(2) and pidfd_getfd(2), since Linux 5.6; the numbers are the same on every architecture. */
const SYS_PIDFD_OPEN = 434;
const SYS_PIDFD_GETFD = 438;

/** Close-on-exec. Needs the right to trace the process. @throws MeshError SYSCALL_FAILED. */
export function takeDescriptor(pid: number, fd: number): number {
  const context = `taking descriptor ${fd} of process ${pid}`;
  const pidfd = check(libc.syscall(SYS_PIDFD_OPEN, pid, 0, 0), 'pidfd_open', context);
  try {
    return check(libc.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0), 'pidfd_getfd', context);
  } finally {
    closeFd(pidfd);
  }
}
