// `culvert version`.

import type { AddCommand } from '../command.ts';

export const addVersion: AddCommand = (program, context) => {
  program
    .command('version')
    .description('print the version')
    .action(() => context.out.write(`culvert ${context.version}\n`));
};
