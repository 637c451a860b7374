// `culvert version`: of this command, of the control planes, of the node proxies.

import { type ClusterFlags, withClusterOptions } from '../cluster-options.ts';
import { type AddCommand, type CliContext, example } from '../command.ts';
import { outputOption } from '../output.ts';

interface VersionFlags extends ClusterFlags {
  readonly remote: boolean;
  readonly short?: boolean;
  readonly output?: 'json' | 'yaml';
}

export const addVersion: AddCommand = (program, context) => {
  const command = program
    .command('version')
    .description('print the versions of this command, of the control plane and of the node proxies')
    .option('--no-remote', 'this command only: ask no cluster')
    .option('-s, --short', 'numbers only')
    .option('-o, --output <form>', 'json or yaml', outputOption('json', 'yaml'));
  withClusterOptions(command)
    .addHelpText('after', example('culvert version', 'culvert version --no-remote --short'))
    .action((flags: VersionFlags) => run(context, flags));
};

async function run(context: CliContext, flags: VersionFlags): Promise<void> {
  const { readVersions, renderVersions } = await import('../versions.ts');
  const versions = flags.remote
    ? await readVersions(context, flags)
    : { client: context.version, control: [], proxies: [], problem: undefined };
  const { output } = flags;
  if (output !== undefined) {
    const { printValue } = await import('../output.ts');
    await printValue(context.out, output, {
      clientVersion: { version: versions.client },
      meshVersion: versions.control,
      dataPlaneVersion: versions.proxies,
    });
  } else {
    context.out.write(renderVersions(versions, flags));
  }
  if (versions.problem !== undefined) {
    context.err.write(`culvert: ${versions.problem}\n`);
    context.setExitCode(1);
  }
}
