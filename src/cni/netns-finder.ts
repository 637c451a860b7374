// Where a pod's network namespace is, when no plugin call told us. One strategy today: runtimes that pin it by name.

import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import { openNetns } from '#linux/netns.ts';

/** A descriptor that the caller owns; undefined when the namespace is not (yet) there. */
export type FindNetns = (podUid: string) => number | undefined;

/** `DIR/cni-UID`, as the emulated kubelet pins them. */
export function pinnedNetns(dir: string): FindNetns {
  return (podUid) => {
    // A UID is text from the API server: it must stay one file name.
    if (!/^[A-Za-z0-9._-]+$/.test(podUid)) return undefined;
    try {
      return openNetns(join(dir, `cni-${podUid}`));
    } catch (error) {
      if (error instanceof MeshError && error.code === 'NETNS_GONE') return undefined;
      throw error;
    }
  };
}
