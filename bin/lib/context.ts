// The command line's view of this process: environment, streams, exit code.

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
  actions,
});
