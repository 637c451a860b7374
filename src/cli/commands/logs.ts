// `culvert logs`: the access log of all node proxies as one, a line per connection.

import { InvalidArgumentError } from 'commander';
import { type ClusterFlags, withClusterOptions } from '../cluster-options.ts';
import { type AddCommand, type CliContext, durationOption, example } from '../command.ts';
import type { ConnectionWish } from '../connection-filter.ts';
import { outputOption } from '../output.ts';
import type { AccessRecord } from '../screen/access-line.ts';

interface LogFlags extends ClusterFlags, ConnectionWish {
  readonly follow?: boolean;
  readonly since?: number;
  readonly tail?: number;
  readonly output?: 'short' | 'json';
}

const DEFAULT_SINCE_MS = 600_000;

export const addLogs: AddCommand = (program, context) => {
  const command = program
    .command('logs')
    .description('connections as the node proxies logged them, from all nodes in one')
    .option('-f, --follow', 'go on with new connections until Ctrl-C')
    .option('--since <duration>', 'how far back (default: 10m; with --follow: from now on)', durationOption)
    .option('--tail <count>', 'only so many of the past ones', countOption)
    .option('-n, --namespace <namespace>', 'only with one end in this namespace')
    .option('--pod <name>', 'only with this workload at one end: NAME or NAMESPACE/NAME')
    .option('--from <name>', 'only from this workload: NAME or NAMESPACE/NAME, or an address')
    .option('--to <name>', 'only to this workload or service, or an address')
    .option('--denied', 'only refused and failed ones')
    .option('--all', "both ends' records of each connection")
    .option('-o, --output <form>', 'short, or json: one object a line', outputOption('short', 'json'));
  withClusterOptions(command)
    .addHelpText('after', example('culvert logs -f', 'culvert logs --denied --since 1h --to shop/cart'))
    .action((flags: LogFlags) => run(context, flags));
};

function countOption(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError(`${JSON.stringify(text)} is no number.`);
  return Number(text);
}

async function run(context: CliContext, flags: LogFlags): Promise<void> {
  const [{ withCluster }, { isWanted }, logs, { renderConnection }, { styleFor }] = await Promise.all([
    import('../cluster.ts'),
    import('../connection-filter.ts'),
    import('../screen/live.ts'),
    import('../screen/connection-line.ts'),
    import('../style.ts'),
  ]);
  const style = styleFor(context.out.isTerminal, context.env);
  const print = (record: AccessRecord): void =>
    context.out.write(
      flags.output === 'json'
        ? `${JSON.stringify({ time: record.time, level: record.level, message: record.message, ...Object.fromEntries(record.fields) })}\n`
        : `${renderConnection(record, style)}\n`,
    );
  const accept = (record: AccessRecord): boolean => isWanted(record, flags);
  await withCluster(context, flags, async ({ client }) => {
    // Following begins with what a stream repeats of the last moments: that much is read in any case, and not shown again.
    const sinceMs = flags.since ?? (flags.follow === true ? 0 : DEFAULT_SINCE_MS);
    const past = await logs.readConnections(client, {
      sinceSeconds: Math.ceil(Math.max(sinceMs, logs.OVERLAP_S * 2000) / 1000),
      accept,
    });
    const asked = sinceMs === 0 ? [] : past;
    for (const record of flags.tail === undefined
      ? asked
      : asked.slice(Math.max(0, asked.length - flags.tail)))
      print(record);
    if (flags.follow !== true) return;
    const seen = new Set(past.map(keyOf));
    const stopped = new AbortController();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.abort());
    await logs.followConnections(
      client,
      stopped.signal,
      (record) => seen.has(keyOf(record)) || print(record),
      {
        accept,
      },
    );
  });
}

/** What was shown of the past is not shown again by the overlapping stream. */
const keyOf = ({ time, fields }: AccessRecord): string =>
  `${time} ${fields.get('src.addr')} ${fields.get('dst.addr')} ${fields.get('direction')}`;
