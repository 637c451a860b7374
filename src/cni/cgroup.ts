// Which pod and container a process belongs to, from /proc/PID/cgroup of either version (cni.md A.5). Pure.
//
// Runtimes name the groups each in their way; what they share is "pod", the pod's UID, and the container's id at the end.

export interface ContainerOf {
  /** Canonical, with hyphens; empty where the runtime (CRI-O) does not write it. */
  readonly podUid: string;
  readonly containerId: string;
}

/** ASCII punctuation: systemd writes the UID with underscores, other drivers with hyphens or without any. */
const P = '[!-/:-@\\[-`{-~]';
const WORD = '[^!-/:-@\\[-`{-~]+';
const HEX = (digits: number): string => `[0-9a-fA-F]{${digits}}`;
const UID = [8, 4, 4, 4, 12].map(HEX).join(`${P}?`);
const POD = new RegExp(`${P}pod(${UID})${P}(?:${WORD}${P})*(${WORD})$`);
const ANY_POD = new RegExp(`${P}pod${UID}`);
const CRIO = new RegExp(`crio${P}(${WORD})$`);

/** Undefined: of no pod, or the lines contradict each other (then nobody may act on them). */
export function containerOf(cgroupFile: string): ContainerOf | undefined {
  let found: ContainerOf | undefined;
  for (const line of cgroupFile.split('\n')) {
    if (line === '') continue;
    // hierarchy:controllers:path; the path may hold colons.
    const parts = line.split(':');
    if (parts.length < 3) return undefined;
    const here = ofPath(
      parts
        .slice(2)
        .join(':')
        .replace(/\.scope$/, ''),
    );
    if (here === undefined) continue;
    if (found !== undefined && (found.containerId !== here.containerId || found.podUid !== here.podUid))
      return undefined;
    found = here;
  }
  return found;
}

function ofPath(path: string): ContainerOf | undefined {
  const pod = POD.exec(path);
  if (pod?.[1] !== undefined && pod[2] !== undefined)
    return { podUid: canonicalUid(pod[1]), containerId: pod[2] };
  const crio = CRIO.exec(path);
  if (crio?.[1] === undefined || ANY_POD.test(path)) return undefined;
  return { podUid: '', containerId: crio[1] };
}

function canonicalUid(text: string): string {
  const hex = text.replace(/[^0-9a-fA-F]/g, '').toLowerCase();
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
