// `culvert node`: work with the emulated nodes of the local mesh.

import { type AddCommand, example, stateDirOption } from '../command.ts';

export const addNode: AddCommand = (program, context) => {
  const node = program.command('node').description('work with the emulated nodes of the local mesh');
  node
    .command('exec <node> <command...>')
    .description("run a command in a node's network and file system")
    .option(...stateDirOption(context))
    .addHelpText('after', example('culvert node exec n1 -- tcpdump -ni any port 15008'))
    .action((name: string, command: string[], flags: { stateDir: string }) =>
      context.actions.nodeExec(name, command, flags),
    );
};
