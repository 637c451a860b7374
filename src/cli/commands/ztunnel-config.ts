// `culvert ztunnel-config`: what node proxies know, in istioctl's words and columns.

import { type Command, InvalidArgumentError } from 'commander';
import { MeshError } from '#base/errors.ts';
import { type ClusterFlags, withClusterOptions } from '../cluster-options.ts';
import { type AddCommand, type CliContext, example, portOption } from '../command.ts';
import { outputOption } from '../output.ts';
import type { Dump } from '../ztunnel-config/dump.ts';

type Form = 'short' | 'wide' | 'json' | 'yaml';

interface Flags extends ClusterFlags {
  readonly namespace?: string;
  readonly node?: string;
  readonly file?: string;
  readonly output?: Form;
  readonly proxyAdminPort: number;
  readonly workloadNamespace?: string;
  readonly workloadNode?: string;
  readonly address?: string;
  readonly serviceNamespace?: string;
  readonly policyNamespace?: string;
  readonly direction?: 'inbound' | 'outbound';
  readonly raw?: boolean;
  readonly level?: string;
  readonly reset?: boolean;
}

type Tables = typeof import('../ztunnel-config/tables.ts');

interface View {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly description: string;
  readonly examples: readonly string[];
  readonly options?: (command: Command) => Command;
  /** What each proxy has of its own; the rest is the same in all, and one is asked. */
  readonly perProxy?: boolean;
  readonly table: (tables: Tables, dump: Dump, flags: Flags, wide: boolean) => string;
  readonly values: (tables: Tables, dump: Dump, flags: Flags) => unknown;
}

const VIEWS: readonly View[] = [
  {
    name: 'all',
    aliases: [],
    description: 'everything',
    examples: ['culvert ztunnel-config all', 'culvert ztunnel-config all -o json --node n1'],
    perProxy: true,
    table: (tables, dump, _flags, wide) =>
      [
        tables.workloadTable(dump, {}, wide),
        tables.serviceTable(dump, undefined, wide),
        tables.policyTable(dump, undefined, wide),
        tables.certificateTable(dump.certificates, Date.now()),
        tables.connectionTable(dump),
      ]
        .map((table) => `\n${table}`)
        .join(''),
    values: (_tables, dump) => dump.raw,
  },
  {
    name: 'workloads',
    aliases: ['workload', 'w'],
    description: 'workloads: address, node, waypoint, protocol',
    examples: [
      'culvert ztunnel-config workloads',
      'culvert ztunnel-config workloads --workload-namespace shop -o json',
    ],
    options: (command) =>
      command
        .option('--workload-namespace <namespace>', 'only workloads of this namespace')
        .option('--workload-node <node>', 'only workloads on this node')
        .option('--address <ip>', 'only workloads with this address'),
    table: (tables, dump, flags, wide) => tables.workloadTable(dump, workloadFilter(flags), wide),
    values: (tables, dump, flags) => tables.selectWorkloads(dump, workloadFilter(flags)),
  },
  {
    name: 'services',
    aliases: ['service', 's', 'svc'],
    description: 'services: address, waypoint, endpoints',
    examples: ['culvert ztunnel-config services', 'culvert ztunnel-config services --service-namespace shop'],
    options: (command) =>
      command.option('--service-namespace <namespace>', 'only services of this namespace'),
    table: (tables, dump, { serviceNamespace }, wide) => tables.serviceTable(dump, serviceNamespace, wide),
    values: (tables, dump, { serviceNamespace }) => tables.selectServices(dump, serviceNamespace),
  },
  {
    name: 'policies',
    aliases: ['policy', 'p', 'pol'],
    description: 'authorization policies',
    examples: [
      'culvert ztunnel-config policies',
      'culvert ztunnel-config policies --policy-namespace shop -o yaml',
    ],
    options: (command) => command.option('--policy-namespace <namespace>', 'only policies of this namespace'),
    table: (tables, dump, { policyNamespace }, wide) => tables.policyTable(dump, policyNamespace, wide),
    values: (tables, dump, { policyNamespace }) => tables.selectPolicies(dump, policyNamespace),
  },
  {
    name: 'certificates',
    aliases: ['certificate', 'certs', 'cert'],
    description: 'certificates of the workloads on the nodes',
    examples: ['culvert ztunnel-config certificates', 'culvert ztunnel-config certificates --node n1'],
    perProxy: true,
    table: (tables, dump) => tables.certificateTable(dump.certificates, Date.now()),
    values: (_tables, dump) => dump.certificates,
  },
  {
    name: 'connections',
    aliases: ['connection', 'cons'],
    description: 'live connections',
    examples: ['culvert ztunnel-config connections', 'culvert ztunnel-config connections --node n1 --raw'],
    perProxy: true,
    options: (command) =>
      command
        .option('--workload-namespace <namespace>', 'only workloads of this namespace')
        .option('--direction <direction>', 'inbound or outbound only', direction)
        .option('--raw', 'addresses instead of names'),
    table: (tables, dump, flags) => tables.connectionTable(dump, connectionFilter(flags)),
    values: (tables, dump, flags) => tables.selectStates(dump, connectionFilter(flags)),
  },
];

const workloadFilter = ({ workloadNamespace, workloadNode, address }: Flags) => ({
  namespace: workloadNamespace,
  node: workloadNode,
  address,
});
const connectionFilter = ({ workloadNamespace, direction, raw }: Flags) => ({
  namespace: workloadNamespace,
  direction,
  raw,
});

function direction(text: string): 'inbound' | 'outbound' {
  if (text === 'inbound' || text === 'outbound') return text;
  throw new InvalidArgumentError(`${JSON.stringify(text)} is no direction; give inbound or outbound.`);
}

export const addZtunnelConfig: AddCommand = (program, context) => {
  const group = program
    .command('ztunnel-config')
    .alias('zc')
    .description(
      'what the node proxies know: workloads, services, policies, certificates, connections; log levels',
    )
    .addHelpText(
      'after',
      example('culvert ztunnel-config workloads', 'culvert ztunnel-config log --level debug'),
    );
  for (const view of VIEWS) {
    const command = common(group.command(`${view.name} [pod]`), view.aliases)
      .description(
        `${view.description}${view.perProxy === true ? ' (of every proxy, unless one is named)' : ''}`,
      )
      .option('-f, --file <file>', 'read a config dump from a file, - for standard input')
      .option(
        '-o, --output <form>',
        'short, wide, json or yaml',
        outputOption('short', 'wide', 'json', 'yaml'),
      )
      .addHelpText('after', example(...view.examples));
    (view.options?.(command) ?? command).action((pod: string | undefined, flags: Flags) =>
      show(context, view, pod, flags),
    );
  }
  common(group.command('log [pod]'), ['o'])
    .description('show or change the log level of one proxy, or of all')
    .option('--level <level>', 'level, or a list such as access=debug,info')
    .option('-r, --reset', 'back to the level they started with')
    .addHelpText(
      'after',
      example('culvert ztunnel-config log', 'culvert ztunnel-config log --level debug --node n1'),
    )
    .action((pod: string | undefined, flags: Flags) => log(context, pod, flags));
};

const common = (command: Command, aliases: readonly string[]): Command =>
  withClusterOptions(command.aliases(aliases))
    .option('-n, --namespace <namespace>', 'namespace of the proxies (default: istio-system)')
    .option('--node <node>', 'the proxy of this node')
    .option('--proxy-admin-port <port>', "the proxies' admin port", portOption, 15_000);

function checkOneSource(pod: string | undefined, { node, file }: Flags): void {
  if ([pod, node, file].filter((given) => given !== undefined).length > 1)
    throw new MeshError('CONFIG_INVALID', 'give at most one of a pod, --node and --file');
}

async function show(context: CliContext, view: View, pod: string | undefined, flags: Flags): Promise<void> {
  checkOneSource(pod, flags);
  const tables = await import('../ztunnel-config/tables.ts');
  const dumps = await readDumps(context, pod, flags, view.perProxy === true);
  const { output = 'short' } = flags;
  if (output === 'json' || output === 'yaml') {
    const { printValue } = await import('../output.ts');
    const values = dumps.map((dump) => view.values(tables, dump, flags));
    const merged = values.every(Array.isArray) ? values.flat() : values.length === 1 ? values[0] : values;
    return printValue(context.out, output, merged);
  }
  context.out.write(view.table(tables, tables.mergeDumps(dumps), flags, output === 'wide'));
}

async function readDumps(
  context: CliContext,
  pod: string | undefined,
  flags: Flags,
  perProxy: boolean,
): Promise<Dump[]> {
  const { parseDump } = await import('../ztunnel-config/dump.ts');
  const { file } = flags;
  if (file !== undefined) {
    const { readFileSync } = await import('node:fs');
    try {
      return [
        parseDump(readFileSync(file === '-' ? 0 : file, 'utf8'), file === '-' ? 'standard input' : file),
      ];
    } catch (error) {
      throw MeshError.from(error, 'CONFIG_INVALID', `cannot read ${file}`);
    }
  }
  const { withCluster, podFetcher, chooseZtunnels } = await reach();
  return withCluster(context, flags, async ({ client, endpoint }) => {
    const all = await chooseZtunnels(client, { name: pod, node: flags.node, namespace: flags.namespace });
    const fetchFromPod = podFetcher(endpoint);
    return Promise.all(
      (perProxy ? all : all.slice(0, 1)).map(async ({ metadata: { name, namespace = '' } }) =>
        parseDump(
          await fetchFromPod({ namespace, pod: name, port: flags.proxyAdminPort, path: '/config_dump' }),
          `the answer of ${name}`,
        ),
      ),
    );
  });
}

async function log(context: CliContext, pod: string | undefined, flags: Flags): Promise<void> {
  checkOneSource(pod, flags);
  const { applyLogWish, loggingPath } = await import('../ztunnel-config/log-levels.ts');
  loggingPath(flags); // a wrong level is said before the cluster is asked
  const { withCluster, podFetcher, chooseZtunnels } = await reach();
  await withCluster(context, flags, async ({ client, endpoint }) => {
    const pods = await chooseZtunnels(client, { name: pod, node: flags.node, namespace: flags.namespace });
    context.out.write(await applyLogWish(podFetcher(endpoint), pods, flags, flags.proxyAdminPort));
  });
}

async function reach() {
  const [{ withCluster }, { podFetcher }, { chooseZtunnels }] = await Promise.all([
    import('../cluster.ts'),
    import('#k8s/pod-http.ts'),
    import('../mesh-pods.ts'),
  ]);
  return { withCluster, podFetcher, chooseZtunnels };
}
