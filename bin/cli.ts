// `culvert` for a person: every command that ends. The long-running programs have entries of their own.

import { spawn } from 'node:child_process';
import { createProgram } from '#cli/program.ts';
import { runProgram } from '#cli/run.ts';
import { enterNodeArguments } from '#local/machine/enter.ts';
import { defaultStateDir, env, runDirOf, version } from './lib/person.ts';

const program = createProgram({
  version: version(),
  defaultStateDir,
  actions: {
    // The launcher hands `up` to its own bundle; only `culvert help up` comes here.
    up: () => Promise.resolve(),
    async nodeExec(node, command, { stateDir }) {
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
  },
});

await runProgram(program, process.argv.slice(2), {
  printError: (text) => process.stderr.write(`${text}\n`),
  exit: (code) => {
    process.exitCode = code;
  },
  debug: env.CULVERT_DEBUG === '1',
});
