// Ending every process of an emulated node at once. They are known by their root file system: a node's is a tmpfs of its
// own, whatever process group, session or network namespace a program has made for itself.

import { readdirSync, statSync } from 'node:fs';
import { sleep } from '#base/clock.ts';
import { errnoOf, MeshError } from '#base/errors.ts';
import { identify, isAlive } from './process-id.ts';

/** Processes that fork while they are looked for are found in the next round. */
const ROUNDS = 100;
const ROUND_MS = 20;

/** @throws MeshError LOCAL_MACHINE_FAILED when some process does not end (it hangs in the kernel). */
export async function killProcessesBelow(rootDevice: number): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    const pids = processesBelow(rootDevice);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if (errnoOf(error) !== 'ESRCH') throw error;
      }
    }
    await sleep(ROUND_MS);
  }
  throw new MeshError(
    'LOCAL_MACHINE_FAILED',
    `processes ${processesBelow(rootDevice).join(', ')} of a killed node do not end`,
  );
}

/** A zombie has no root any more and does not count. */
function processesBelow(rootDevice: number): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    const pid = Number(name);
    try {
      if (pid === process.pid || statSync(`/proc/${pid}/root`).dev !== rootDevice) return [];
    } catch {
      return []; // it ended while we looked
    }
    const id = identify(pid);
    return id !== undefined && isAlive(id) ? [pid] : [];
  });
}
