// `culvert ca`: the mesh's certificate authority: what it is and when it ends, who trusts it, and its rotation, rehearsed on a
// copy or done step by step.

import type { Command } from 'commander';
import { type ClusterFlags, withClusterOptions } from '../cluster-options.ts';
import { type AddCommand, type CliContext, example, portOption } from '../command.ts';
import { outputOption } from '../output.ts';

interface CaFlags extends ClusterFlags {
  readonly output?: 'short' | 'json' | 'yaml';
  readonly proxyAdminPort: number;
}

interface RehearseFlags extends CaFlags {
  readonly with?: string;
  readonly atOnce?: boolean;
}

interface RotateFlags extends CaFlags {
  readonly yes?: boolean;
  readonly dryRun?: boolean;
}

export const addCa: AddCommand = (program, context) => {
  const group = program
    .command('ca')
    .description("the mesh's certificate authority: roots and their ends, who trusts what, rotation")
    .addHelpText('after', example('culvert ca', 'culvert ca rehearse', 'culvert ca rotate --dry-run'));
  common(group.command('show', { isDefault: true }))
    .description(
      'signing certificate, intermediates and roots with their ends; namespaces and proxies that are behind (exit code 1 when connections fail or will)',
    )
    .addHelpText('after', example('culvert ca', 'culvert ca show -o yaml'))
    .action((flags: CaFlags) => show(context, flags));
  common(group.command('rehearse'))
    .description(
      'rotate the root on a copy: real certificates and handshakes for every step, and what would break (exit code 1); changes nothing',
    )
    .option('--with <dir>', 'the next authority as files (ca-cert.pem, ca-key.pem, …) instead of a new root')
    .option('--at-once', 'replace everything in one step, as it would be without a rotation')
    .addHelpText(
      'after',
      example(
        'culvert ca rehearse',
        'culvert ca rehearse --with ./next-cacerts',
        'culvert ca rehearse --at-once',
      ),
    )
    .action((flags: RehearseFlags) => rehearse(context, flags));
  common(group.command('rotate'))
    .description('take the next step of a rotation of the self-signed root, if nothing would break by it')
    .option('--dry-run', 'say which step is next and what it waits for')
    .option('-y, --yes', 'do not ask')
    .addHelpText('after', example('culvert ca rotate --dry-run', 'culvert ca rotate --yes'))
    .action((flags: RotateFlags) => rotate(context, flags));
};

const common = (command: Command): Command =>
  withClusterOptions(command)
    .option('-o, --output <form>', 'short, json or yaml', outputOption('short', 'json', 'yaml'))
    .option('--proxy-admin-port <port>', "the proxies' admin port", portOption, 15_000);

async function readAll(context: CliContext, flags: CaFlags) {
  const [{ withCluster }, { podFetcher }, { readAuthority }, { readTrust }, { readHoldings }] =
    await Promise.all([
      import('../cluster.ts'),
      import('#k8s/pod-http.ts'),
      import('../ca/authority.ts'),
      import('../ca/trust.ts'),
      import('../ca/holdings.ts'),
    ]);
  return withCluster(context, flags, async ({ client, endpoint }) => {
    const authority = await readAuthority(client, Date.now());
    const [trust, holdings] = await Promise.all([
      readTrust(client, authority.material.roots),
      readHoldings(client, podFetcher(endpoint), flags.proxyAdminPort),
    ]);
    return { authority, trust, holdings };
  });
}

async function print(
  context: CliContext,
  { output = 'short' }: CaFlags,
  value: unknown,
  text: () => string,
): Promise<void> {
  if (output === 'short') return void context.out.write(text());
  const { printValue } = await import('../output.ts');
  await printValue(context.out, output, value);
}

async function show(context: CliContext, flags: CaFlags): Promise<void> {
  const [{ authority, trust, holdings }, { reportOn }, { reportText }] = await Promise.all([
    readAll(context, flags),
    import('../ca/report.ts'),
    import('../ca/tables.ts'),
  ]);
  const { source, material } = authority;
  const report = reportOn({ source, material, trust, holdings }, Date.now());
  await print(context, flags, report, () => reportText(report));
  if (report.findings.some(({ level }) => level === 'error')) context.setExitCode(1);
}

async function rehearse(context: CliContext, flags: RehearseFlags): Promise<void> {
  const [rehearsal, { nextAuthority }, { rehearsalText }] = await Promise.all([
    import('../ca/rehearsal.ts'),
    import('../ca/next-authority.ts'),
    import('../ca/tables.ts'),
  ]);
  // What was planned is looked at before the cluster is asked.
  const planned = flags.with === undefined ? undefined : await nextAuthority(flags.with);
  const { authority, trust, holdings } = await readAll(context, flags);
  const today = authority.material;
  const next = planned ?? (await nextAuthority(undefined, today));
  const atOnce = flags.atOnce === true;
  const result = await rehearsal.rehearse({ today, next, trust, holdings, atOnce });
  await print(context, flags, result, () => rehearsalText(result));
  if (!result.isSafe) context.setExitCode(1);
}

async function rotate(context: CliContext, flags: RotateFlags): Promise<void> {
  const [{ planRotation, takeStep, checkBlockers }, { withCluster }, { confirm }] = await Promise.all([
    import('../ca/rotation.ts'),
    import('../cluster.ts'),
    import('../confirm.ts'),
  ]);
  const view = await readAll(context, flags);
  const plan = planRotation(view);
  const told = (isDone: boolean): Promise<void> =>
    print(
      context,
      flags,
      { ...plan, isDone },
      () =>
        `${plan.says}\n${plan.blockers.map((text) => `waits: ${text}\n`).join('')}${isDone ? `Done: ${plan.afterwards}.\n` : ''}`,
    );
  if (flags.dryRun === true) return told(false);
  checkBlockers(plan);
  if (flags.yes !== true) await confirm(context, plan.says);
  await withCluster(context, flags, ({ client }) => takeStep(client, plan, view.authority));
  await told(true);
}
