// Runs the command line: usage errors end with code 2, failures with 1 and one sentence, never a stack trace.

import { type Command, CommanderError } from 'commander';
import { MeshError, reasonOf } from '#base/errors.ts';
import { EXIT_FAILURE, EXIT_USAGE } from './program.ts';

export interface RunDeps {
  readonly printError: (text: string) => void;
  readonly exit: (code: number) => void;
  readonly debug: boolean;
}

export async function runProgram(program: Command, argv: readonly string[], deps: RunDeps): Promise<void> {
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
      deps.exit(error.exitCode === 0 ? 0 : EXIT_USAGE);
      return;
    }
    deps.printError(`culvert: ${reasonOf(error)}`);
    if (!(error instanceof MeshError) || deps.debug)
      deps.printError(error instanceof Error ? (error.stack ?? '') : '');
    deps.exit(EXIT_FAILURE);
  }
}
