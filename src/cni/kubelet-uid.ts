// Whose sockets count as probes: the user of the node's kubelet, found among its processes (cni.md A.8). MicroK8s and k3s
// have theirs under other names.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The first match counts; undefined: no kubelet is to be seen. */
export function findKubeletUid(procDir: string): number | undefined {
  for (const pid of readdirSync(procDir)) {
    if (!/^\d+$/.test(pid)) continue;
    const read = (file: string): string => readFileSync(join(procDir, pid, file), 'utf8');
    try {
      if (!isKubelet(read('comm').trim(), () => read('cmdline'))) continue;
      const uid = /^Uid:\s+(\d+)/m.exec(read('status'))?.[1];
      if (uid !== undefined) return Number(uid);
    } catch {
      // It ended while it was looked at.
    }
  }
  return undefined;
}

function isKubelet(name: string, readCommandLine: () => string): boolean {
  if (name === 'k3s') return true;
  if (name !== 'kubelet' && name !== 'kubelite') return false;
  return readCommandLine()
    .split('\0')
    .some((word) => /kubelet/i.test(word));
}
