// `culvert proxy-status`: which proxies are connected to the control plane, and whether they have what it sent.

import { type ClusterFlags, withClusterOptions } from '../cluster-options.ts';
import { type AddCommand, type CliContext, example } from '../command.ts';
import { outputOption } from '../output.ts';

interface StatusFlags extends ClusterFlags {
  readonly output?: 'short' | 'wide' | 'json' | 'yaml';
}

export const addProxyStatus: AddCommand = (program, context) => {
  const command = program
    .command('proxy-status [pod]')
    .alias('ps')
    .description('which node proxies the control plane serves, and whether they have what it sent')
    .option(
      '-o, --output <form>',
      'short, wide, json or yaml',
      outputOption('short', 'wide', 'json', 'yaml'),
    );
  withClusterOptions(command)
    .addHelpText('after', example('culvert proxy-status', 'culvert proxy-status -o wide'))
    .action((pod: string | undefined, flags: StatusFlags) => run(context, pod, flags));
};

async function run(context: CliContext, pod: string | undefined, flags: StatusFlags): Promise<void> {
  const [{ withCluster }, { podFetcher }, status] = await Promise.all([
    import('../cluster.ts'),
    import('#k8s/pod-http.ts'),
    import('../proxy-status.ts'),
  ]);
  const { output = 'short' } = flags;
  const proxies = await withCluster(context, flags, ({ client, endpoint }) =>
    status.readProxyStatus(client, podFetcher(endpoint), pod),
  );
  if (output === 'json' || output === 'yaml') {
    const { printValue } = await import('../output.ts');
    await printValue(context.out, output, proxies);
  } else {
    context.out.write(status.proxyStatusTable(proxies, output === 'wide'));
  }
  if (proxies.some(status.isBehind)) context.setExitCode(1);
}
