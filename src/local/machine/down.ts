// Ends a machine from outside: asks its FRONT to stop in order, ends what a killed FRONT left, and on request removes what
// the cluster kept.

import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { sleep } from '#base/clock.ts';
import { errnoOf, MeshError } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { FAMILY_FILE } from './ip-family.ts';
import { endLeftover, lockPath, readLock } from './lock.ts';
import { isAlive, type ProcessId } from './process-id.ts';

export type DownResult =
  | { readonly kind: 'nothing-ran' }
  | { readonly kind: 'stopped'; readonly pid: number }
  /** FRONT was gone already; the machine it left was ended. */
  | { readonly kind: 'leftover-ended' };

export interface DownLimits {
  /** For the orderly way: longer than FRONT itself waits. */
  readonly stopMs: number;
  /** After that FRONT is told once more, which makes it leave at once. */
  readonly killMs: number;
}

const LIMITS: DownLimits = { stopMs: 15_000, killMs: 5000 };
const POLL_MS = 50;

/** @throws MeshError LOCAL_MACHINE_FAILED when the machine belongs to somebody else or does not end. */
export async function stopMachine(
  runDir: string,
  log: Logger,
  limits: DownLimits = LIMITS,
): Promise<DownResult> {
  const path = lockPath(runDir);
  const held = readLock(path);
  if (held === undefined) return { kind: 'nothing-ran' };
  const { front, machine } = held;
  const frontRan = isAlive(front);
  if (frontRan) {
    const over = (): boolean => !isAlive(front);
    signal(front, 'SIGINT');
    if (!(await within(limits.stopMs, over))) {
      log.warn('the machine did not stop in order and is ended at once', { pid: front.pid });
      signal(front, 'SIGINT');
      if (!(await within(limits.killMs, over))) signal(front, 'SIGKILL');
      if (!(await within(limits.killMs, over)))
        throw new MeshError('LOCAL_MACHINE_FAILED', `process ${front.pid} does not end, not even by SIGKILL`);
    }
  }
  const machineRan = machine !== undefined && isAlive(machine);
  if (machineRan) await endLeftover(machine, log);
  // Somebody may have started the next machine already: its lock is not ours to take.
  if (readLock(path)?.front.startTicks === front.startTicks) rmSync(path, { force: true });
  if (frontRan) return { kind: 'stopped', pid: front.pid };
  return machineRan ? { kind: 'leftover-ended' } : { kind: 'nothing-ran' };
}

function signal(process_: ProcessId, name: 'SIGINT' | 'SIGKILL'): void {
  if (!isAlive(process_)) return;
  try {
    process.kill(process_.pid, name);
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return;
    throw MeshError.from(
      error,
      'LOCAL_MACHINE_FAILED',
      `process ${process_.pid} of the machine belongs to another user: stop it as that user or as root`,
    );
  }
}

async function within(limitMs: number, condition: () => boolean): Promise<boolean> {
  for (let waitedMs = 0; !condition(); waitedMs += POLL_MS) {
    if (waitedMs >= limitMs) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/** Everything a machine writes to its state directory, and nothing else that may lie there. */
const STATE_ENTRIES = [
  'cache',
  'cluster.db',
  'cluster.db-shm',
  'cluster.db-wal',
  FAMILY_FILE,
  'kubeconfig',
  'nodes',
  'pki',
  'run',
];

/** Removes the cluster's state; returns what lies in the directory besides it (then the directory stays). */
export function purgeState(stateDir: string): string[] {
  if (!existsSync(stateDir)) return [];
  try {
    for (const name of STATE_ENTRIES) rmSync(join(stateDir, name), { recursive: true, force: true });
    const others = readdirSync(stateDir);
    if (others.length === 0) rmdirSync(stateDir);
    return others;
  } catch (error) {
    throw MeshError.from(error, 'LOCAL_MACHINE_FAILED', `cannot remove the state in ${stateDir}`);
  }
}
