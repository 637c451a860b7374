// `culvert` for a person: every command that ends. The long-running programs have entries of their own.

import { createProgram } from '#cli/program.ts';
import { runProgram } from '#cli/run.ts';
import { actions } from './lib/actions.ts';
import { contextWith } from './lib/context.ts';

const context = contextWith(actions);
await runProgram(createProgram(context), process.argv.slice(2), context);
process.exit(); // not by having nothing left to do: docs/decisions/0021-ends.md
