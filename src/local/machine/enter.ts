// The way into a running machine from the host: which processes hold the namespaces of a node. Reads what FRONT (lock.ts)
// and LOCAL (node.ts) wrote into the run directory.

import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import { lockPath, readLock } from './lock.ts';
import { isAlive, type ProcessId } from './process-id.ts';

export interface NodeEntry {
  /** Arguments of `nsenter` that run what follows them in the node's network namespace and file system. */
  readonly args: readonly string[];
  /** Whom to become before: root is nobody in a machine that somebody else's user namespace surrounds. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** The machine knows one uid: changes of identity are refused in it (linux/identity-calls.ts). */
  readonly hasOneUid: boolean;
}

export function enterNode(runDir: string, node: string): NodeEntry {
  const machine = readLock(lockPath(runDir))?.machine;
  if (machine === undefined || !isAlive(machine)) {
    throw new MeshError(
      'LOCAL_MACHINE_FAILED',
      `no local mesh runs from ${runDir}; start one with: culvert up`,
    );
  }
  const keeper = readJson<ProcessId>(join(runDir, 'nodes', `${node}.json`));
  if (keeper === undefined) {
    throw new MeshError(
      'CONFIG_INVALID',
      `there is no node ${JSON.stringify(node)}; the nodes are ${nodeNames(runDir).join(', ')}`,
    );
  }
  const target = pidOutside(machine.pid, keeper.pid);
  // The pid namespace is not entered: nsenter would have to fork, and a signal for the command would reach nsenter only.
  const namespaces = ['-m', '-n', '--'];
  if (userNamespaceOf(target) === userNamespaceOf('self'))
    return { args: ['-t', String(target), ...namespaces], hasOneUid: false };
  const { uid, gid } = statSync(`/proc/${target}`);
  return {
    // The right to enter the others comes from the user namespace, so it is entered first. The map makes the caller root
    // there; becoming uid 0 once more would need setgroups, which such a namespace denies (user_namespaces(7)).
    args: ['-t', String(target), '-U', '--preserve-credentials', ...namespaces],
    hasOneUid: true,
    ...(process.getuid?.() === uid ? {} : { owner: { uid, gid } }),
  };
}

function userNamespaceOf(process: number | 'self'): string {
  return readlinkSync(`/proc/${process}/ns/user`);
}

/** The host's pid of a process that the machine knows as `inner`. */
function pidOutside(machinePid: number, inner: number): number {
  const init =
    readFileSync(`/proc/${machinePid}/task/${machinePid}/children`, 'utf8').trim().split(' ')[0] ?? '';
  const namespace = readlinkSync(`/proc/${init}/ns/pid`);
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (readlinkSync(`/proc/${name}/ns/pid`) !== namespace) continue;
      const nested = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1]?.split(/\s+/);
      if (nested?.at(-1) === String(inner)) return Number(name);
    } catch {
      // It ended while we looked.
    }
  }
  throw new MeshError('LOCAL_MACHINE_FAILED', 'the node is gone; look at the first screen of culvert up');
}

function nodeNames(runDir: string): string[] {
  return readdirSync(join(runDir, 'nodes'))
    .filter((name) => name.endsWith('.json'))
    .map((name) => name.slice(0, -'.json'.length))
    .sort();
}

function readJson<T>(path: string): T | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch {
    return undefined;
  }
}
