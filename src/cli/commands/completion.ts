// `culvert completion`: a script for the shell.

import { type AddCommand, example } from '../command.ts';

export const addCompletion: AddCommand = (program, context) => {
  program
    .command('completion <shell>')
    .description('print a completion script for bash, zsh or fish')
    .addHelpText('after', example('source <(culvert completion bash)', 'culvert completion fish | source'))
    .action(async (shell: string) => {
      const [{ completionScript }, { describeCommand }] = await Promise.all([
        import('../completion.ts'),
        import('../command-tree.ts'),
      ]);
      context.out.write(completionScript(describeCommand(program), shell));
    });
};
