// `culvert up`: the mesh on this machine. bin/up.ts runs it; here it is declared.

import { Option } from 'commander';
import {
  type AddCommand,
  example,
  imageOption,
  portOption,
  stateDirOption,
  type UpFlags,
  wholeOption,
} from '../command.ts';

export const addUp: AddCommand = (program, context) => {
  program
    .command('up')
    .description(
      'start the mesh on this machine: API server, nodes, control plane, proxies and a sample shop',
    )
    .option(...stateDirOption(context))
    .option('--api-port <port>', 'port of the API server on 127.0.0.1', portOption, 16_443)
    .option(
      '--nodes <count>',
      'have at least so many nodes (a new cluster: 2)',
      wholeOption('a number of nodes', 1, 32),
    )
    .addOption(
      new Option(
        '--ip-family <family>',
        'addresses of pods, nodes and services: ipv4, dual or ipv6; kept for the life of the cluster (a new one: dual where the kernel has IPv6)',
      ).choices(['ipv4', 'dual', 'ipv6']),
    )
    .option(
      '--image <name=command>',
      'run this command for containers with image local/NAME (may be given several times)',
      imageOption,
    )
    .option('--no-sample', 'leave the sample shop out')
    .option('--bare', 'an empty cluster, without mesh and sample (for culvert install)')
    .option('--timings', 'print when each part of the start-up began and ended')
    .option(
      '--ztunnel <command>',
      "run this in place of our node proxy; 'n2=COMMAND' on one node only",
      each,
      [],
    )
    .option('--control <command>', 'run this in place of our control plane', each, [])
    .option('--cni <command>', "run this in place of our CNI agent; 'n2=COMMAND' on one node only", each, [])
    .addHelpText(
      'after',
      example('culvert up', 'culvert up --bare', "culvert up --ztunnel 'n2=/opt/ztunnel/ztunnel'"),
    )
    .action((flags: UpFlags) => context.actions.up(flags));
};

/** For an option that may be given several times. */
function each(text: string, before: readonly string[]): readonly string[] {
  return [...before, text];
}
