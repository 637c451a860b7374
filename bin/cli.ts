// `culvert` for a person: every command that ends. The long-running programs have entries of their own.

import { createProgram } from '#cli/program.ts';
import { runProgram } from '#cli/run.ts';
import { actions } from './lib/actions.ts';
import { contextWith } from './lib/context.ts';
import { end } from './lib/end.ts';

const context = contextWith(actions);
await runProgram(createProgram(context), process.argv.slice(2), context);
end();
