// The command line's view of this process: environment, streams, exit code.

import { createInterface } from 'node:readline/promises';
import type { Actions, CliContext, Output } from '#cli/command.ts';
import { defaultStateDir, env, projectDir, version } from './person.ts';

const outputOf = (stream: NodeJS.WriteStream): Output => ({
  write: (text) => void stream.write(text),
  isTerminal: stream.isTTY === true,
});

export const contextWith = (actions: Actions): CliContext => ({
  version: version(),
  defaultStateDir,
  projectDir,
  env,
  out: outputOf(process.stdout),
  err: outputOf(process.stderr),
  setExitCode: (code) => {
    process.exitCode = code;
  },
  ask: async (question) => {
    if (process.stdin.isTTY !== true || process.stderr.isTTY !== true) return undefined;
    const lines = createInterface({ input: process.stdin, output: process.stderr });
    try {
      return await lines.question(question);
    } finally {
      lines.close();
    }
  },
  actions,
});
