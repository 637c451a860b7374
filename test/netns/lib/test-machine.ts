// The machine of local mode on current bundles, in a folder of its own, for tests that want a real cluster under them.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Machine, type MachineOptions, startMachine } from '#local/machine/front.ts';
import { silentLogger } from '#telemetry/log.ts';
import { freePort } from '../../lib/free-port.ts';

const root = join(import.meta.dirname, '../../..');

export interface TestMachine {
  readonly folder: string;
  readonly options: MachineOptions;
  readonly machine: Machine;
  readonly kubeconfig: string;
  /** Ends the machine, and nothing is left of it. */
  close(): Promise<void>;
}

/** Somewhere else than any other machine. The caller removes the folder. */
export async function machineOptions(folder: string): Promise<MachineOptions> {
  return {
    stateDir: join(folder, 'state'),
    runDir: join(folder, 'run'),
    root,
    node: process.execPath,
    apiPort: await freePort(),
    log: silentLogger,
  };
}

export async function startTestMachine(): Promise<TestMachine> {
  const built = spawnSync(join(root, 'bin/culvert'), ['version'], { encoding: 'utf8' });
  assert.equal(built.status, 0, built.stderr);
  const folder = mkdtempSync(join(tmpdir(), 'culvert-machine-'));
  const options = await machineOptions(folder);
  const machine = await startMachine(options);
  const close = async (): Promise<void> => {
    await machine.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const { kubeconfig } = await machine.ready;
    return { folder, options, machine, kubeconfig, close };
  } catch (error) {
    await close();
    throw error;
  }
}
