// The programs that run in the cluster: started by their manifests, seldom by hand. The launcher (bin/culvert) hands them
// to bundles of their own; here they only have their line in the help.

import { type AddCommand, example } from '../command.ts';

export const addPrograms: AddCommand = (program) => {
  const [, , cni] = (
    [
      ['ztunnel', 'the node proxy (configured by environment variables)'],
      ['control', 'the control plane'],
      ['cni', 'the CNI node agent'],
    ] as const
  ).map(([name, description]) =>
    program.command(name).description(`run ${description}`).allowUnknownOption(),
  );
  cni
    ?.command('check')
    .description('look at this node before the mesh comes to it: what will break, and what to do')
    .option('--net-dir <directory>', "the node's CNI configuration", '/etc/cni/net.d')
    .option('--proc-dir <directory>', "the node's /proc", '/proc')
    .option('-o, --output <form>', 'json')
    .addHelpText('after', example('sudo KUBECONFIG=$HOME/.kube/config culvert cni check'));
};
