// The programs that run in the cluster: started by their manifests, seldom by hand. The launcher (bin/culvert) hands them
// to bundles of their own; here they only have their line in the help.

import type { AddCommand } from '../command.ts';

export const addPrograms: AddCommand = (program) => {
  for (const [name, description] of [
    ['ztunnel', 'the node proxy (configured by environment variables)'],
    ['control', 'the control plane'],
    ['cni', 'the CNI node agent'],
  ] as const)
    program.command(name).description(`run ${description}`).allowUnknownOption();
};
