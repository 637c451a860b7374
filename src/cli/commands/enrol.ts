// `culvert enrol` and `culvert unenrol`: the label istio.io/dataplane-mode, and what came of it.

import type { Command } from 'commander';
import { type ClusterFlags, withClusterOptions } from '../cluster-options.ts';
import { type AddCommand, type CliContext, durationOption, example } from '../command.ts';

interface EnrolFlags extends ClusterFlags {
  readonly namespace?: string;
  readonly dryRun?: boolean;
  readonly timeout: number;
}

const WAIT_LIMIT_MS = 60_000;

export const addEnrol: AddCommand = (program, context) => {
  declare(program, context, {
    name: 'enrol',
    alias: 'enroll',
    enrol: true,
    description: 'take a namespace or a pod into the mesh; nothing restarts',
    examples: ['culvert enrol my-app', 'culvert enrol pod/web-0 -n my-app --dry-run'],
  });
};

export const addUnenrol: AddCommand = (program, context) => {
  declare(program, context, {
    name: 'unenrol',
    alias: 'unenroll',
    enrol: false,
    description: 'take a namespace or a pod out of the mesh; nothing restarts',
    examples: ['culvert unenrol my-app', 'culvert unenrol pod/web-0 -n my-app'],
  });
};

interface Declaration {
  readonly name: string;
  readonly alias: string;
  readonly enrol: boolean;
  readonly description: string;
  readonly examples: readonly string[];
}

function declare(
  program: Command,
  context: CliContext,
  { name, alias, enrol, description, examples }: Declaration,
): void {
  const command = program
    .command(`${name} <target>`)
    .alias(alias)
    .description(description)
    .argument('[more...]')
    .option('-n, --namespace <namespace>', 'namespace of pods')
    .option('--dry-run', 'say what would happen and change nothing')
    .option(
      '--timeout <duration>',
      'how long the nodes may take (default: 1m)',
      durationOption,
      WAIT_LIMIT_MS,
    );
  withClusterOptions(command)
    .addHelpText('after', example(...examples))
    .action((target: string, more: string[], flags: EnrolFlags) =>
      run(context, [target, ...more], enrol, flags),
    );
}

async function run(
  context: CliContext,
  names: readonly string[],
  enrol: boolean,
  flags: EnrolFlags,
): Promise<void> {
  const [{ withCluster }, enrolment, { MODE_LABEL }] = await Promise.all([
    import('../cluster.ts'),
    import('../enrolment.ts'),
    import('../install/installed.ts'),
  ]);
  await withCluster(context, flags, async ({ client, namespace: current }) => {
    const targets = names.map((name) => enrolment.parseTarget(name, flags.namespace ?? current));
    if (enrol) for (const target of targets) enrolment.checkTarget(target);
    for (const target of targets) {
      const subject = await enrolment.readSubject(client, target);
      const namespaceMode = subject.namespace.metadata.labels?.[MODE_LABEL];
      const mode = enrolment.wantedMode(target, enrol, namespaceMode);
      const label = mode === null ? `without ${MODE_LABEL}` : `${MODE_LABEL}=${mode}`;
      const named =
        target.kind === 'namespace' ? `namespace ${target.name}` : `pod ${target.namespace}/${target.name}`;
      if (flags.dryRun === true) {
        context.out.write(`${named} would be labelled: ${label}\n`);
        for (const pod of subject.pods) {
          const later = target.kind === 'namespace' ? pod : withMode(pod, MODE_LABEL, mode);
          const verdict = enrolment.judgePod(
            later,
            target.kind === 'namespace' ? (mode ?? undefined) : namespaceMode,
          );
          context.out.write(`  ${pod.metadata.name}: ${said(verdict, 'would be')}\n`);
        }
        continue;
      }
      await enrolment.setMode(client, target, mode);
      context.out.write(`${named}: ${label}\n`);
      for (const { pod, verdict } of await enrolment.waitForOutcome(client, target, flags.timeout))
        context.out.write(`  ${pod.metadata.name}: ${said(verdict, 'is')}\n`);
    }
  });
}

type Verdict = ReturnType<typeof import('../enrolment.ts').judgePod>;

const said = (verdict: Verdict, verb: string): string =>
  verdict.carried ? `${verb} in the mesh` : `${verb} not in the mesh: ${verdict.because}`;

function withMode<T extends { metadata: { labels?: Record<string, string> } }>(
  pod: T,
  label: string,
  mode: string | null,
): T {
  const { [label]: _, ...others } = pod.metadata.labels ?? {};
  return {
    ...pod,
    metadata: { ...pod.metadata, labels: mode === null ? others : { ...others, [label]: mode } },
  };
}
