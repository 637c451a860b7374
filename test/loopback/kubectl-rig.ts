// One kubectl against the API server of a test.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Kubectl } from '../lib/kubectls.ts';
import type { ApiRig } from './apiserver-rig.ts';

export interface Run {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Every run has a home and a discovery cache of its own, in the state directory of the server. */
export function kubectlFor(rig: ApiRig, program: Kubectl): (args: string, input?: string) => Promise<Run> {
  const config = join(rig.folder, 'kubeconfig');
  writeFileSync(config, rig.server.kubeconfig(rig.url), { mode: 0o600 });
  return async (args, input = '') => {
    const child = spawn(program.path, args.split(' '), {
      env: { PATH: process.env.PATH, HOME: rig.folder, KUBECONFIG: config },
      stdio: 'pipe',
      timeout: 60_000,
    });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    const [out, err, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    return { code, out, err };
  };
}

/** What it printed, when it went well. */
export const ok = (run: Run): string => {
  assert.equal(run.code, 0, `${run.out}${run.err}`);
  return run.out;
};
