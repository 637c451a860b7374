// `culvert install`: the mesh into the cluster of the current context, or as manifests.

import { MeshError } from '#base/errors.ts';
import { type ClusterFlags, withClusterOptions } from '../cluster-options.ts';
import { type AddCommand, type CliContext, collect, example, readinessTimeoutOption } from '../command.ts';
import { listSettings } from '../install/settings.ts';
import { outputOption } from '../output.ts';

interface InstallFlags extends ClusterFlags {
  readonly set?: readonly string[];
  readonly image?: string;
  readonly dryRun?: boolean;
  readonly output?: 'json' | 'yaml';
  readonly yes?: boolean;
  readonly skipConfirmation?: boolean;
  readonly force?: boolean;
  readonly readinessTimeout: number;
}

export const addInstall: AddCommand = (program, context) => {
  const command = program
    .command('install')
    .description('install the mesh into a cluster, or bring an installed one up to date')
    .option('-s, --set <key=value>', 'a setting, may be repeated (listed below)', collect)
    .option(
      '--image <image>',
      'container image that holds Culvert (any cluster but the embedded one needs it)',
    )
    .option('--dry-run', 'print the manifests and change nothing')
    .option('-o, --output <form>', 'form of --dry-run: yaml or json', outputOption('yaml', 'json'))
    .option('-y, --yes', 'do not ask')
    .option('--skip-confirmation', 'the same as --yes')
    .option('--force', 'take over a mesh that somebody else installed, or remove proxies in use')
    .addOption(readinessTimeoutOption());
  withClusterOptions(command)
    .addHelpText('after', () => `\nSettings:\n${settingsHelp()}`)
    .addHelpText(
      'after',
      example(
        'culvert install --set profile=ambient',
        'culvert install --image registry.example/culvert:0.1.0 --dry-run > mesh.yaml',
      ),
    )
    .action((flags: InstallFlags) => run(context, flags));
};

function settingsHelp(): string {
  const settings = listSettings();
  const width = Math.max(...settings.map(({ key }) => key.length)) + 2;
  return settings.map(({ key, help }) => `  ${key.padEnd(width)}${help}`).join('\n');
}

async function run(context: CliContext, flags: InstallFlags): Promise<void> {
  const [{ parseSettings }, { renderMesh }] = await Promise.all([
    import('../install/settings.ts'),
    import('../install/render.ts'),
  ]);
  const settings = parseSettings(flags.set ?? [], flags.image);
  const components = renderMesh(context.projectDir, context.version, settings);
  if (flags.dryRun === true) {
    const [{ printValues }, { inApplyOrder }] = await Promise.all([
      import('../output.ts'),
      import('#k8s/manifests.ts'),
    ]);
    if (settings.image === undefined)
      context.err.write(
        'culvert: these manifests name programs of this machine (image local/…), for the embedded cluster; another cluster needs --image\n',
      );
    const objects = components.flatMap(({ objects }) => inApplyOrder(objects));
    return printValues(context.out, flags.output ?? 'yaml', objects);
  }
  if (flags.output !== undefined) throw new MeshError('CONFIG_INVALID', '--output goes with --dry-run only');
  const [{ withCluster, isEmbedded }, { confirmIfAsked }, { installMesh }, { checkInstall }] =
    await Promise.all([
      import('../cluster.ts'),
      import('../confirm.ts'),
      import('../install/progress.ts'),
      import('../install/install.ts'),
    ]);
  await withCluster(context, flags, async ({ client, endpoint, contextName }) => {
    checkImage(await isEmbedded(client), settings.image);
    if (flags.force !== true) await checkInstall(client, components);
    if (flags.yes !== true && flags.skipConfirmation !== true)
      await confirmIfAsked(
        context,
        `This installs Culvert ${context.version}, profile ${settings.profile}, into ${contextName} (${endpoint.server}).`,
      );
    await installMesh(context, client, components, { limitMs: flags.readinessTimeout });
    context.out.write(
      settings.profile === 'minimal'
        ? `The control plane is installed. Node proxies come with: culvert install --set profile=ambient\n`
        : 'The mesh is installed. To put a namespace into it:\n  kubectl label namespace NAME istio.io/dataplane-mode=ambient\n',
    );
  });
}

function checkImage(embedded: boolean, image: string | undefined): void {
  if (embedded && image !== undefined)
    throw new MeshError(
      'CONFIG_INVALID',
      'the embedded cluster runs the programs of this machine: leave image, hub and tag out',
    );
  if (!embedded && image === undefined)
    throw new MeshError(
      'CONFIG_INVALID',
      'this is not the embedded cluster, so its nodes need a container image that holds Culvert: name it by --image=IMAGE, or --set hub=REGISTRY --set tag=VERSION for REGISTRY/culvert:VERSION',
    );
}
