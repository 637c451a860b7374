// The command line as one tree: what `culvert help` shows and what bad usage is answered with.

import { Command } from 'commander';
import type { AddCommand, CliContext } from './command.ts';
import { addCa } from './commands/ca.ts';
import { addCapture } from './commands/capture.ts';
import { addCompletion } from './commands/completion.ts';
import { addDown } from './commands/down.ts';
import { addEnrol, addUnenrol } from './commands/enrol.ts';
import { addInstall } from './commands/install.ts';
import { addLogs } from './commands/logs.ts';
import { addNode } from './commands/node.ts';
import { addPrograms } from './commands/programs.ts';
import { addProxyStatus } from './commands/proxy-status.ts';
import { addSupportBundle } from './commands/support-bundle.ts';
import { addUninstall } from './commands/uninstall.ts';
import { addUp } from './commands/up.ts';
import { addVersion } from './commands/version.ts';
import { addZtunnelConfig } from './commands/ztunnel-config.ts';

/** In the order of the help. */
const COMMANDS: readonly AddCommand[] = [
  addUp,
  addDown,
  addNode,
  addInstall,
  addUninstall,
  addEnrol,
  addUnenrol,
  addProxyStatus,
  addZtunnelConfig,
  addCa,
  addLogs,
  addCapture,
  addSupportBundle,
  addVersion,
  addCompletion,
  addPrograms,
];

export function createProgram(context: CliContext): Command {
  const program = new Command('culvert')
    .description('A sidecar-less service mesh, whole on one machine or on Kubernetes')
    .version(context.version, '-V, --version', 'print the version')
    .showSuggestionAfterError(true)
    .showHelpAfterError('(culvert help lists the commands)')
    .configureHelp({ sortSubcommands: false });
  for (const add of COMMANDS) add(program, context);
  return program;
}
