// The way into a running machine from the host: which processes hold the namespaces of a node. Reads what FRONT (lock.ts)
// and LOCAL (node.ts) wrote into the run directory.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import { isAlive, type ProcessId } from './process-id.ts';

/** Arguments of `nsenter` that run what follows them in the node's network namespace and file system. */
export function enterNodeArguments(runDir: string, node: string): string[] {
  const machine = readJson<{ readonly machine?: ProcessId }>(join(runDir, 'machine.lock'))?.machine;
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
  // The pid namespace is not entered: nsenter would have to fork, and a signal for the command would reach nsenter only.
  return ['-t', String(pidOutside(machine.pid, keeper.pid)), '-m', '-n', '--'];
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
