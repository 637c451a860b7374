// The command line as one tree: what `culvert help` shows and what bad usage is answered with. Each program's bin file
// supplies what its commands do, because the long-running ones live in bundles of their own.

import { Command, InvalidArgumentError } from 'commander';
import { parsePort } from '#net/host-port.ts';

export interface UpFlags {
  readonly stateDir: string;
  readonly apiPort: number;
  readonly sample: boolean;
}

export interface Actions {
  up(flags: UpFlags): Promise<void>;
  nodeExec(node: string, command: readonly string[], flags: { readonly stateDir: string }): Promise<void>;
}

/** Wrong usage; 1 is for work that failed. */
export const EXIT_USAGE = 2;
export const EXIT_FAILURE = 1;

export interface ProgramOptions {
  readonly version: string;
  readonly defaultStateDir: string;
  readonly actions: Actions;
}

export function createProgram({ version, defaultStateDir, actions }: ProgramOptions): Command {
  const program = new Command('culvert')
    .description('A sidecar-less service mesh, whole on one machine or on Kubernetes')
    .version(version, '-V, --version', 'print the version')
    .showSuggestionAfterError(true)
    .showHelpAfterError('(culvert help lists the commands)')
    .configureHelp({ sortSubcommands: false });
  const stateDir = ['--state-dir <dir>', "where the local cluster's state lives", defaultStateDir] as const;

  program
    .command('up')
    .description(
      'start the mesh on this machine: API server, two nodes, control plane, proxies and a sample shop',
    )
    .option(...stateDir)
    .option('--api-port <port>', 'port of the API server on 127.0.0.1', portOption, 16_443)
    .option('--no-sample', 'leave the sample shop out')
    .addHelpText('after', '\nExample:\n  culvert up --no-sample')
    .action((flags: UpFlags) => actions.up(flags));

  const node = program.command('node').description('work with the emulated nodes of the local mesh');
  node
    .command('exec <node> <command...>')
    .description("run a command in a node's network and file system")
    .option(...stateDir)
    .addHelpText('after', '\nExample:\n  culvert node exec n1 -- tcpdump -ni any port 15008')
    .action((name: string, command: string[], flags: { stateDir: string }) =>
      actions.nodeExec(name, command, flags),
    );

  program
    .command('version')
    .description('print the version')
    .action(() => console.log(`culvert ${version}`));

  // Programs that run in the cluster: started by their manifests, seldom by hand.
  for (const [name, description] of [
    ['ztunnel', 'the node proxy (configured by environment variables)'],
    ['control', 'the control plane'],
    ['cni', 'the CNI node agent'],
  ] as const) {
    program.command(name, { hidden: false }).description(`run ${description}`).allowUnknownOption();
  }
  return program;
}

function portOption(text: string): number {
  const port = parsePort(text);
  if (port === undefined)
    throw new InvalidArgumentError(`${JSON.stringify(text)} is no port; give a number from 1 to 65535.`);
  return port;
}
