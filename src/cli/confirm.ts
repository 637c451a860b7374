// Questions before a command changes a cluster.

import { MeshError } from '#base/errors.ts';
import type { CliContext } from './command.ts';

/** Asks only when a person is there; programs are taken at their word. @throws MeshError REFUSED after a no */
export async function confirmIfAsked(context: CliContext, what: string): Promise<void> {
  const answer = await context.ask(`${what} Proceed? (y/N) `);
  if (answer !== undefined) checkYes(answer);
}

/** For what cannot be undone: without a person it takes `--yes`. @throws MeshError REFUSED */
export async function confirm(context: CliContext, what: string): Promise<void> {
  const answer = await context.ask(`${what} Proceed? (y/N) `);
  if (answer === undefined)
    throw new MeshError('REFUSED', `${what} Nobody is here to be asked: say --yes to go on`);
  checkYes(answer);
}

function checkYes(answer: string): void {
  if (!/^y(es)?$/i.test(answer.trim())) throw new MeshError('REFUSED', 'nothing was changed');
}
