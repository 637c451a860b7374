// Where and of what a page of results is.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { projectDir } from '../../test/e2e/harness.ts';

export interface Machine {
  readonly commit: string;
  readonly kernel: string;
  readonly cores: number;
  readonly processor: string;
}

export const thisMachine = (): Machine => ({
  commit: execFileSync('git', ['-C', projectDir, 'rev-parse', '--short', 'HEAD'], {
    encoding: 'utf8',
  }).trim(),
  kernel: release(),
  cores: cpus().length,
  processor: /model name\s*: (.*)/.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown',
});

export const describeMachine = ({ commit, kernel, cores, processor }: Machine): string =>
  `Commit ${commit}, Linux ${kernel}, ${cores} cores (${processor})`;
