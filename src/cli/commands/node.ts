// `culvert node`: work with the emulated nodes of the local mesh.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { MeshError } from '#base/errors.ts';
import { type AddCommand, type CliContext, example, stateDirOption, wholeOption } from '../command.ts';
import type { NodeCommandDeps, NodeOptions } from '../node/nodes.ts';

interface StateDir {
  readonly stateDir: string;
}

export const addNode: AddCommand = (program, context) => {
  const node = program.command('node').description('work with the emulated nodes of the local mesh');
  const add = (usage: string, description: string, line: string): Command =>
    node
      .command(usage)
      .description(description)
      .option(...stateDirOption(context))
      .addHelpText('after', example(line));

  add('list', 'show the nodes, their state and how many pods they run', 'culvert node list').action(
    async (flags: StateDir) => {
      const { listNodes } = await import('../node/nodes.ts');
      await withApi(context, flags, listNodes);
    },
  );
  add('add <name>', 'add a node', 'culvert node add n3 --zone z3')
    .option('--zone <zone>', 'its topology.kubernetes.io/zone')
    .option('--cpu <quantity>', 'CPU that pods may request of it, such as 2 or 500m (all of the machine)')
    .option('--memory <quantity>', 'memory that pods may request of it, such as 4Gi (all of the machine)')
    .action(async (name: string, flags: StateDir & NodeOptions) => {
      const nodes = await import('../node/nodes.ts');
      await withApi(context, flags, (deps) => nodes.addNode(deps, name, flags));
    });
  for (const [verb, description, schedulable] of [
    ['cordon', 'let no new pods onto a node', false],
    ['uncordon', 'let new pods onto a node again', true],
  ] as const)
    add(`${verb} <name>`, description, `culvert node ${verb} n2`).action(
      async (name: string, flags: StateDir) => {
        const nodes = await import('../node/nodes.ts');
        await withApi(context, flags, (deps) => nodes.setSchedulable(deps, name, schedulable));
      },
    );
  add(
    'drain <name>',
    'cordon a node and evict its pods (not those of DaemonSets)',
    'culvert node drain n2 --timeout 60',
  )
    .option('--force', 'also delete pods that nothing would make again', false)
    .option(
      '--timeout <seconds>',
      'give up after this long',
      wholeOption('a number of seconds', 1, 86_400),
      120,
    )
    .action(async (name: string, flags: StateDir & { readonly force: boolean; readonly timeout: number }) => {
      const { drainNode } = await import('../node/drain.ts');
      const options = { force: flags.force, timeoutMs: flags.timeout * 1000 };
      await withApi(context, flags, (deps) => drainNode(deps, name, options));
    });
  for (const [verb, description, does] of [
    ['kill', 'end a node at once, as a power failure would; it stays off until it is started', 'killNode'],
    ['start', 'start a node that was killed', 'startNode'],
    ['remove', 'take a node away; its pods are made anew elsewhere', 'removeNode'],
  ] as const)
    add(`${verb} <name>`, description, `culvert node ${verb} n2`).action(
      async (name: string, flags: StateDir) => {
        const nodes = await import('../node/nodes.ts');
        await withApi(context, flags, (deps) => nodes[does](deps, name));
      },
    );
  add(
    'exec <node> <command...>',
    "run a command in a node's network and file system",
    'culvert node exec n1 -- tcpdump -ni any port 15008',
  ).action((name: string, command: string[], flags: StateDir) =>
    context.actions.nodeExec(name, command, flags),
  );
};

/** Nodes of the local mesh, whatever cluster kubectl speaks to. */
async function withApi(
  context: CliContext,
  { stateDir }: StateDir,
  work: (deps: NodeCommandDeps) => Promise<void>,
): Promise<void> {
  const path = join(stateDir, 'kubeconfig');
  if (!existsSync(path))
    throw new MeshError(
      'CONFIG_INVALID',
      `there is no local mesh in ${stateDir}; start one with: culvert up`,
    );
  const [{ kubeconfigEndpoint }, { createRestClient }] = await Promise.all([
    import('#k8s/kubeconfig.ts'),
    import('#k8s/rest-client.ts'),
  ]);
  const client = createRestClient(kubeconfigEndpoint(readFileSync(path, 'utf8')));
  try {
    await work({ client, write: context.out.write });
  } finally {
    client.close();
  }
}
