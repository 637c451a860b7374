// Which address families a cluster has: decided when it is made, kept with its state. Nodes and services have been given
// addresses by then, and a cluster that lost one family would answer with names of addresses that lead nowhere.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import { CLUSTER_FAMILIES, type ClusterFamily } from './plan.ts';

export const FAMILY_FILE = 'ip-family';

export interface FamilyFacts {
  /** As `culvert up --ip-family`. */
  readonly asked: ClusterFamily | undefined;
  /** Of a cluster that is there already. */
  readonly kept: ClusterFamily | undefined;
  readonly kernelHasV6: boolean;
}

/** Pure. @throws MeshError CONFIG_INVALID, KERNEL_FEATURE_MISSING */
export function chooseFamily({ asked, kept, kernelHasV6 }: FamilyFacts): ClusterFamily {
  if (asked !== undefined && kept !== undefined && asked !== kept)
    throw new MeshError(
      'CONFIG_INVALID',
      `this cluster was made with --ip-family ${kept} and keeps it; for another one remove it first: culvert down --purge`,
    );
  // Where nothing was asked for a machine without IPv6 has a cluster all the same.
  const family = asked ?? kept ?? (kernelHasV6 ? 'dual' : 'ipv4');
  if (family !== 'ipv4' && !kernelHasV6)
    throw new MeshError(
      'KERNEL_FEATURE_MISSING',
      'this kernel has no IPv6 (ipv6.disable=1, or the module ipv6 is not loaded): use --ip-family ipv4, for a cluster that was made with IPv6 after culvert down --purge',
    );
  return family;
}

/** Decides, and writes the decision down. */
export function clusterFamily(stateDir: string, asked: ClusterFamily | undefined): ClusterFamily {
  const family = chooseFamily({
    asked,
    kept: keptFamily(stateDir),
    kernelHasV6: existsSync('/proc/sys/net/ipv6/conf'),
  });
  writeFileSync(join(stateDir, FAMILY_FILE), `${family}\n`, { mode: 0o600 });
  return family;
}

function keptFamily(stateDir: string): ClusterFamily | undefined {
  if (!existsSync(join(stateDir, 'cluster.db'))) return undefined;
  const path = join(stateDir, FAMILY_FILE);
  // Clusters from before there was a choice have IPv4.
  if (!existsSync(path)) return 'ipv4';
  const text = readFileSync(path, 'utf8').trim();
  const kept = CLUSTER_FAMILIES.find((each) => each === text);
  if (kept !== undefined) return kept;
  throw new MeshError(
    'LOCAL_MACHINE_FAILED',
    `${path} says ${JSON.stringify(text)}: expected one of ${CLUSTER_FAMILIES.join(', ')}`,
  );
}
