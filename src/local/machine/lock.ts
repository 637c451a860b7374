// One machine per run directory. The lock names FRONT and the machine's process by pid and start time; what a killed FRONT
// left behind is recognised by it and ended.

import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { sleep } from '#base/clock.ts';
import { errnoOf, MeshError } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { identify, isAlive, type ProcessId } from './process-id.ts';

export interface LockContent {
  readonly front: ProcessId;
  readonly machine?: ProcessId;
}

export interface MachineLock {
  /** Notes the machine's process, so that a successor can end it. */
  own(machinePid: number): void;
  release(): void;
}

const END_LIMIT_MS = 5000;

export const lockPath = (runDir: string): string => join(runDir, 'machine.lock');

/** @throws MeshError LOCAL_MACHINE_FAILED while another FRONT uses the directory. */
export async function acquireMachineLock(runDir: string, log: Logger): Promise<MachineLock> {
  const path = lockPath(runDir);
  const front = identify(process.pid);
  if (front === undefined)
    throw new MeshError('LOCAL_MACHINE_FAILED', '/proc is not mounted; local mode needs it');
  const write = (content: LockContent): void => {
    const fresh = `${path}.${process.pid}`;
    writeFileSync(fresh, JSON.stringify(content), { mode: 0o600 });
    renameSync(fresh, path);
  };
  for (;;) {
    try {
      writeFileSync(path, JSON.stringify({ front }), { mode: 0o600, flag: 'wx' });
      break;
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST')
        throw MeshError.from(error, 'LOCAL_MACHINE_FAILED', `cannot write ${path}`);
    }
    const held = readLock(path);
    if (held !== undefined && isAlive(held.front)) {
      throw new MeshError(
        'LOCAL_MACHINE_FAILED',
        `Culvert already runs here (process ${held.front.pid}, ${runDir}); stop it first (culvert down --state-dir ${dirname(runDir)}), or give this one another state directory`,
        { details: { pid: held.front.pid } },
      );
    }
    if (held?.machine !== undefined) await endLeftover(held.machine, log);
    rmSync(path, { force: true });
  }
  return {
    own: (machinePid) => {
      const machine = identify(machinePid);
      if (machine !== undefined) write({ front, machine });
    },
    release: () => rmSync(path, { force: true }),
  };
}

/** Undefined when nobody holds it. */
export function readLock(path: string): LockContent | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as LockContent;
  } catch {
    return undefined; // half written by a process that died: nobody holds it
  }
}

/** SIGKILL to the machine's `unshare` ends all that is inside (--kill-child). */
export async function endLeftover(machine: ProcessId, log: Logger): Promise<void> {
  if (!isAlive(machine)) return;
  log.warn('a machine left by an earlier run is ended', { pid: machine.pid });
  process.kill(machine.pid, 'SIGKILL');
  for (let waitedMs = 0; isAlive(machine); waitedMs += 20) {
    if (waitedMs > END_LIMIT_MS)
      throw new MeshError('LOCAL_MACHINE_FAILED', `process ${machine.pid} of an earlier run does not end`);
    await sleep(20);
  }
}
