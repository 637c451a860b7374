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
  // The keeper's pid is one of the machine's pid namespace: enter that first, then the keeper's own namespaces.
  const init =
    readFileSync(`/proc/${machine.pid}/task/${machine.pid}/children`, 'utf8').trim().split(' ')[0] ?? '';
  return ['-t', init, '-m', '-n', '-p', '--', 'nsenter', '-t', String(keeper.pid), '-m', '-n', '--'];
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
