// Runs the command line: usage errors end with code 2, failures with 1 and one sentence, never a stack trace.

import { type Command, CommanderError } from 'commander';
import { MeshError, reasonOf } from '#base/errors.ts';
import { type CliContext, EXIT_FAILURE, EXIT_USAGE } from './command.ts';

export async function runProgram(
  program: Command,
  argv: readonly string[],
  { err, env, setExitCode }: Pick<CliContext, 'err' | 'env' | 'setExitCode'>,
): Promise<void> {
  const override = (command: Command): void => {
    command.exitOverride();
    command.commands.forEach(override);
  };
  override(program);
  try {
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version end here too, with code 0; commander has printed what there is to say.
      setExitCode(error.exitCode === 0 ? 0 : EXIT_USAGE);
      return;
    }
    err.write(`culvert: ${reasonOf(error)}\n`);
    if ((!(error instanceof MeshError) || env.CULVERT_DEBUG === '1') && error instanceof Error)
      err.write(`${error.stack ?? ''}\n`);
    setExitCode(EXIT_FAILURE);
  }
}
