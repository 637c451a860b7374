// The reference page of the commands as they are declared, with defaults that do not depend on who builds it.

import { VERSION } from '#base/version.ts';
import type { CliContext } from './command.ts';
import { describeCommand } from './command-tree.ts';
import { createProgram } from './program.ts';
import { renderReference } from './reference.ts';

const nothing = (): Promise<never> => Promise.reject(new Error('this program only describes itself'));

/** A program that can be described, not run. */
export const describingContext: CliContext = {
  version: VERSION,
  defaultStateDir: '~/.local/state/culvert',
  projectDir: '.',
  env: {},
  out: { write: () => {}, isTerminal: false },
  err: { write: () => {}, isTerminal: false },
  setExitCode: () => {},
  ask: () => Promise.resolve(undefined),
  actions: { up: nothing, down: nothing, nodeExec: nothing, nodeOutput: nothing, nodeSpawn: nothing },
};

export const commandReference = (): string =>
  renderReference(describeCommand(createProgram(describingContext)));
