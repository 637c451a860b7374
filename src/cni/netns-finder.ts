// Where a pod's network namespace is, when no plugin call told us: pinned by name where the runtime does so, otherwise
// that of one of its processes. No runtime's socket is needed (cni.md A.5).

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import { closeFd, inNetns, type NetnsId, netnsId, openNetns, sameNetns } from '#linux/netns.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';
import { containerOf } from './cgroup.ts';

/**
 * A descriptor that the caller owns; undefined when the namespace is not (yet) there. `ips`: the pod's addresses, one
 * of which must be in the namespace; without any only a pinned one is found.
 */
export type FindNetns = (podUid: string, ips: readonly IpAddress[]) => number | undefined;

export interface NetnsFinderOptions {
  /** Where runtimes pin namespaces, `cni-UID`. */
  readonly pinnedDir: string;
  /** `/proc` of the node: with its processes, not only our own. */
  readonly procDir: string;
}

export interface NetnsFinderDeps {
  /** No pod's, ever. */
  readonly hostNetns: NetnsId;
  /** Milliseconds that never go backwards. */
  readonly monotonicMs: () => number;
}

/** Pods are looked for in bursts (an agent starts, a namespace gets its label): one look at /proc serves them all. */
const SCAN_HOLDS_MS = 200;

interface Candidate {
  readonly path: string;
  /** Clock ticks since boot, as /proc/PID/stat has it. */
  readonly startTicks: number;
}

export function createNetnsFinder(deps: NetnsFinderDeps, options: NetnsFinderOptions): FindNetns {
  let scan: { readonly atMs: number; readonly byUid: ReadonlyMap<string, readonly Candidate[]> } | undefined;

  function candidatesOf(podUid: string): readonly Candidate[] {
    const nowMs = deps.monotonicMs();
    if (scan === undefined || nowMs - scan.atMs > SCAN_HOLDS_MS)
      scan = { atMs: nowMs, byUid: scanProcesses(options.procDir) };
    return scan.byUid.get(podUid) ?? [];
  }

  /** Debug containers and helpers may sit in foreign namespaces: the oldest process whose namespace is the pod's wins. */
  function ofProcess(podUid: string, ips: readonly IpAddress[]): number | undefined {
    if (ips.length === 0) return undefined;
    const refused: NetnsId[] = [];
    for (const { path } of candidatesOf(podUid)) {
      const fd = openIfThere(path);
      if (fd === undefined) continue;
      const id = netnsId(fd);
      const isKnown = sameNetns(id, deps.hostNetns) || refused.some((other) => sameNetns(other, id));
      if (!isKnown && holdsAny(fd, ips)) return fd;
      refused.push(id);
      closeFd(fd);
    }
    return undefined;
  }

  return (podUid, ips) => pinned(options.pinnedDir, podUid) ?? ofProcess(podUid, ips);
}

function pinned(dir: string, podUid: string): number | undefined {
  // A UID is text from the API server: it must stay one file name.
  if (!/^[A-Za-z0-9._-]+$/.test(podUid)) return undefined;
  return openIfThere(join(dir, `cni-${podUid}`));
}

function openIfThere(path: string): number | undefined {
  try {
    return openNetns(path);
  } catch (error) {
    if (error instanceof MeshError && error.code === 'NETNS_GONE') return undefined;
    throw error;
  }
}

/** Each pod's processes, the oldest first. A process may end while it is looked at: then it is none of them. */
function scanProcesses(procDir: string): ReadonlyMap<string, readonly Candidate[]> {
  const byUid = new Map<string, Candidate[]>();
  for (const pid of readdirSync(procDir)) {
    if (!/^\d+$/.test(pid)) continue;
    const dir = join(procDir, pid);
    try {
      const podUid = containerOf(readFileSync(join(dir, 'cgroup'), 'utf8'))?.podUid;
      if (podUid === undefined || podUid === '') continue;
      // Kernel threads and zombies have none.
      statSync(join(dir, 'ns/net'));
      const candidates = byUid.get(podUid) ?? [];
      candidates.push({
        path: join(dir, 'ns/net'),
        startTicks: startOf(readFileSync(join(dir, 'stat'), 'utf8')),
      });
      byUid.set(podUid, candidates);
    } catch {
      // Gone meanwhile, or not ours to see.
    }
  }
  for (const candidates of byUid.values()) candidates.sort((a, b) => a.startTicks - b.startTicks);
  return byUid;
}

/** Field 22; counted after the last parenthesis, because the program's name may hold anything. */
function startOf(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[19]);
}

function holdsAny(netnsFd: number, ips: readonly IpAddress[]): boolean {
  const held = inNetns(netnsFd, () => networkInterfaces());
  return Object.values(held).some((addresses) =>
    addresses?.some(({ address }) => {
      const ip = parseIp(address);
      return ip !== undefined && ips.includes(ip);
    }),
  );
}
