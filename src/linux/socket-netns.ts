// Which network namespace a socket belongs to, asked of the kernel.

import { check, libc } from './libc.ts';
import { closeFd, type NetnsId, netnsId } from './netns.ts';

/** A new descriptor of the socket's namespace; needs CAP_NET_ADMIN over it. */
const SIOCGSKNS = 0x894c;

/** @throws MeshError `SYSCALL_FAILED`: no socket, or no right to ask. */
export function socketNetnsId(fd: number): NetnsId {
  const netns = check(libc.ioctl(fd, SIOCGSKNS, 0), 'ioctl', `network namespace of socket ${fd}`);
  try {
    return netnsId(netns);
  } finally {
    closeFd(netns);
  }
}
