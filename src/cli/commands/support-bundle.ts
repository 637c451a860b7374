// `culvert support-bundle`: one file with what somebody else needs to see, and without what nobody else may see.

import { type ClusterFlags, withClusterOptions } from '../cluster-options.ts';
import { type AddCommand, type CliContext, example, stateDirOption } from '../command.ts';

interface BundleFlags extends ClusterFlags {
  readonly file?: string;
  readonly stateDir: string;
}

export const addSupportBundle: AddCommand = (program, context) => {
  const command = program
    .command('support-bundle')
    .description(
      'gather objects, logs, configuration and rules of the mesh into one file, without keys and tokens',
    )
    .option('-f, --file <file>', 'where to write it (default: culvert-support-TIME.tar.gz)')
    .option(...stateDirOption(context));
  withClusterOptions(command)
    .addHelpText('after', example('culvert support-bundle', 'culvert support-bundle --file /tmp/mesh.tar.gz'))
    .action((flags: BundleFlags) => run(context, flags));
};

async function run(context: CliContext, flags: BundleFlags): Promise<void> {
  const [
    { withCluster, isEmbedded },
    { podFetcher },
    { gather },
    { tarArchive },
    { gzipSync },
    { writeFileSync },
  ] = await Promise.all([
    import('../cluster.ts'),
    import('#k8s/pod-http.ts'),
    import('../support/gather.ts'),
    import('../support/tar.ts'),
    import('node:zlib'),
    import('node:fs'),
  ]);
  const at = new Date();
  const folder = `culvert-support-${at.toISOString().slice(0, 19).replaceAll(':', '')}`;
  const file = flags.file ?? `${folder}.tar.gz`;
  const { files, missing } = await withCluster(context, flags, async ({ client, endpoint }) =>
    gather({
      client,
      fetchFromPod: podFetcher(endpoint),
      onGathered: (what) => context.err.write(`gathered: ${what}\n`),
      readRules: (await isEmbedded(client))
        ? (node, podUid) =>
            context.actions.nodeOutput(
              node,
              [
                ...(podUid === undefined ? [] : ['nsenter', `--net=/var/run/netns/cni-${podUid}`]),
                'nft',
                'list',
                'ruleset',
              ],
              flags,
            )
        : undefined,
    }),
  );
  const about = [
    `Made by culvert ${context.version} at ${at.toISOString()}.`,
    'Secrets, ConfigMaps, private keys, tokens and passwords are left out.',
    ...(missing.length === 0 ? [] : ['', 'Could not be had:', ...missing]),
    '',
  ].join('\n');
  const all = [{ path: 'ABOUT.txt', text: about }, ...files].map(({ path, text }) => ({
    path: `${folder}/${path}`,
    text,
  }));
  writeFileSync(file, gzipSync(tarArchive(all, at.getTime())), { mode: 0o600 });
  context.out.write(`${file}: ${all.length} files. Look through it before you hand it on.\n`);
  for (const one of missing) context.err.write(`missing: ${one}\n`);
}
