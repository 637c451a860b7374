// What the node's own files say: connection tracking, reverse paths, IPv6, CNI configuration. Reading only.

import { join } from 'node:path';
import { type ConfigList, configNames, readConfigFile, readIfThere } from '../install/config-files.ts';
import type { Finding } from './finding.ts';

export interface NodeDirs {
  /** `/proc` of the node. */
  readonly procDir: string;
  readonly netDir: string;
}

export type NodeConfigLists = readonly { readonly file: string; readonly list: ConfigList }[];

const FULL_PERCENT = 80;

export async function checkSysctls({ procDir }: NodeDirs): Promise<Finding[]> {
  const read = async (path: string): Promise<number | undefined> => {
    const text = await readIfThere(join(procDir, 'sys/net', path));
    return text === undefined ? undefined : Number(text);
  };
  const findings: Finding[] = [];
  const [count, max] = [await read('netfilter/nf_conntrack_count'), await read('netfilter/nf_conntrack_max')];
  if (count !== undefined && max !== undefined && max > 0 && (100 * count) / max >= FULL_PERCENT)
    findings.push({
      id: 'conntrack-full',
      level: 'trap',
      what: `connection tracking holds ${count} of at most ${max} connections: when it is full, new ones are dropped`,
      fix: `raise net.netfilter.nf_conntrack_max`,
    });
  if ((await read('ipv4/conf/all/rp_filter')) === 1)
    findings.push({
      id: 'rp-filter',
      level: 'ok',
      what: 'reverse paths are filtered strictly (rp_filter=1); a pod with several networks may lose its probes',
    });
  if ((await read('ipv6/conf/all/disable_ipv6')) === 1)
    findings.push({ id: 'ipv6-off', level: 'ok', what: 'IPv6 is switched off on this node' });
  return findings;
}

/** Undefined where there is no IPv6 in the kernel, or it is off. */
export async function hasIpv6({ procDir }: NodeDirs): Promise<boolean> {
  return (await readIfThere(join(procDir, 'sys/net/ipv6/conf/all/disable_ipv6')))?.trim() === '0';
}

export async function readLists({ netDir }: NodeDirs): Promise<NodeConfigLists> {
  const files = await configNames(netDir);
  const lists = await Promise.all(
    files.map(async (file) => {
      const found = await readConfigFile(join(netDir, file));
      return found === undefined ? [] : [{ file, list: found.list }];
    }),
  );
  return lists.flat();
}

export function checkLists(lists: NodeConfigLists, { netDir }: NodeDirs): Finding[] {
  if (lists.length === 0)
    return [
      {
        id: 'no-network',
        level: 'broken',
        what: `${netDir} has no CNI configuration: the plugin has nothing to be chained to`,
        fix: 'install the network of the cluster first, or name its directory: --net-dir',
      },
    ];
  const [first] = lists;
  const types = first?.list.plugins.map(({ type }) => type).join(', ');
  return [{ id: 'primary', level: 'ok', what: `pods get their network from ${first?.file} (${types})` }];
}
