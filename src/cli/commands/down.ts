// `culvert down`: ends the mesh of this machine from another terminal. Nothing to end is no failure.

import { type AddCommand, type DownFlags, example, stateDirOption } from '../command.ts';

export const addDown: AddCommand = (program, context) => {
  program
    .command('down')
    .description('end the mesh on this machine, from any terminal')
    .option(...stateDirOption(context))
    .option('--purge', "remove the cluster's state as well: objects, keys, certificates")
    .addHelpText('after', example('culvert down', 'culvert down --purge'))
    .action(async (flags: DownFlags) => {
      context.out.write(`${await context.actions.down(flags)}\n`);
    });
};
