// `culvert uninstall`: removes what `culvert install` made, and nothing else.

import { type ClusterFlags, withClusterOptions } from '../cluster-options.ts';
import { type AddCommand, type CliContext, example, readinessTimeoutOption } from '../command.ts';

interface UninstallFlags extends ClusterFlags {
  readonly yes?: boolean;
  readonly skipConfirmation?: boolean;
  readonly force?: boolean;
  readonly purge?: boolean;
  readonly readinessTimeout: number;
}

export const addUninstall: AddCommand = (program, context) => {
  const command = program
    .command('uninstall')
    .description('remove what install made; policies and definitions that people use stay')
    .option('-y, --yes', 'do not ask')
    .option('--skip-confirmation', 'the same as --yes')
    .option('--force', 'go on although workloads are in the mesh; they lose their connections')
    .option('--purge', 'like --force, and remove the policies, their definitions and the namespace, too')
    .addOption(readinessTimeoutOption());
  withClusterOptions(command)
    .addHelpText('after', example('culvert uninstall', 'culvert uninstall --purge --yes'))
    .action((flags: UninstallFlags) => run(context, flags));
};

async function run(context: CliContext, flags: UninstallFlags): Promise<void> {
  const [{ withCluster }, { confirm }, { planUninstall, uninstall }] = await Promise.all([
    import('../cluster.ts'),
    import('../confirm.ts'),
    import('../install/uninstall.ts'),
  ]);
  await withCluster(context, flags, async ({ client, contextName, endpoint }) => {
    const options = { force: flags.force === true, purge: flags.purge === true };
    const plan = await planUninstall(client, options);
    if (flags.yes !== true && flags.skipConfirmation !== true)
      await confirm(
        context,
        `This removes Culvert (${plan.remove.length} objects) from ${contextName} (${endpoint.server}).`,
      );
    await uninstall(client, plan, { limitMs: flags.readinessTimeout }, (what) =>
      context.out.write(`removed ${what}\n`),
    );
    for (const kept of plan.keep) context.out.write(`kept ${kept}\n`);
  });
}
