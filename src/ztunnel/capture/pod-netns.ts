// A pod's network namespace by a descriptor of it.

import { closeFd, netnsId } from '#linux/netns.ts';
import type { PodNetns } from './capture.ts';

/** The descriptor is its own from now on. */
export function podNetns(fd: number): PodNetns {
  const { dev, ino } = netnsId(fd);
  return { id: `${dev}:${ino}`, fd, close: () => closeFd(fd) };
}
