// What the command line cannot reach itself, because it lies in src/local: loaded when a command asks for it.

import { spawn } from 'node:child_process';
import type { Actions } from '#cli/command.ts';
import { runDirOf } from './person.ts';

export const actions: Actions = {
  // The launcher hands `up` to its own bundle; only `culvert help up` comes here.
  up: () => Promise.resolve(),

  async nodeExec(node, command, { stateDir }) {
    const { enterNodeArguments } = await import('#local/machine/enter.ts');
    const child = spawn('nsenter', [...enterNodeArguments(runDirOf(stateDir), node), ...command], {
      stdio: 'inherit',
    });
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
    process.exitCode = await new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code, signal) =>
        resolve(code ?? (signal === 'SIGINT' || signal === 'SIGTERM' ? 0 : 1)),
      );
    });
  },
};
