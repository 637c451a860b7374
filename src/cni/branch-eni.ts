// Security groups for pods on AWS give a pod an interface of its own (branch ENI), whose traffic the VPC CNI routes by a table of
// its own, straight past the node. The kubelet's probes, with the address that pods let pass, have to find the way to the pod, and
// the answers the way to the node (cni.md A.9.3). Whether a pod has such an interface is read from the rules that the VPC CNI made.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf } from '#base/errors.ts';
import {
  addIpRule,
  type HostRoute,
  type IpRule,
  listHostRoutes,
  listIpRules,
  removeIpRule,
} from '#linux/ip-rules.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';

const PROBE_PRIORITY = 512;
const MAIN_TABLE = 254;
const LOCAL_TABLE = 255;

export interface BranchEni {
  /** Failures are logged: only probes suffer. */
  set(uid: string, ips: readonly IpAddress[]): void;
  remove(uid: string): void;
}

/** The VPC CNI asks for this setting where it serves probes of such pods; without it they cannot arrive anyway. */
export function hasEarlyDemuxOff(procDir: string): boolean {
  try {
    return readFileSync(join(procDir, 'sys/net/ipv4/tcp_early_demux'), 'utf8').startsWith('0');
  } catch {
    return false;
  }
}

/** The two rules that a pod with such an interface needs; undefined: it has none. Pure. */
export function branchRules(
  ip: IpAddress,
  rules: readonly IpRule[],
  routes: readonly HostRoute[],
): readonly [IpRule, IpRule] | undefined {
  const branch = rules.find(
    ({ inputInterface, table }) =>
      inputInterface !== undefined &&
      table !== MAIN_TABLE &&
      table !== LOCAL_TABLE &&
      routes.some(
        (route) => route.to === ip && route.table === table && route.outputInterface === inputInterface,
      ),
  );
  if (branch?.inputInterface === undefined) return undefined;
  return [
    { to: ip, table: branch.table, priority: PROBE_PRIORITY },
    {
      inputInterface: branch.inputInterface,
      table: LOCAL_TABLE,
      priority: Math.max(0, branch.priority - 1),
    },
  ];
}

/** `netnsFd` undefined: the agent's own namespace, which is the node's. */
export function createBranchEni(log: Logger, netnsFd?: number): BranchEni {
  /** Remembered, because the VPC CNI may have taken its own rules away by the time ours are to go. */
  const added = new Map<string, { readonly ip: IpAddress; readonly rules: readonly IpRule[] }[]>();

  function add(uid: string, ip: IpAddress): void {
    const family = familyOf(ip);
    const rules = branchRules(ip, listIpRules(netnsFd, family), listHostRoutes(netnsFd, family));
    if (rules === undefined) return;
    const [way, back] = rules;
    addIpRule(netnsFd, family, way);
    try {
      addIpRule(netnsFd, family, back);
    } catch (error) {
      removeIpRule(netnsFd, family, way);
      throw error;
    }
    added.set(uid, [...(added.get(uid) ?? []), { ip, rules }]);
  }

  function removeAll(uid: string): void {
    for (const { ip, rules } of added.get(uid) ?? [])
      for (const rule of rules) removeIpRule(netnsFd, familyOf(ip), rule);
    added.delete(uid);
  }

  const attempt = (uid: string, what: string, work: () => void): void => {
    try {
      work();
    } catch (error) {
      log.warn(`the rules for probes of a pod with a branch interface could not be ${what}`, {
        uid,
        error: reasonOf(error),
      });
    }
  };

  return {
    set(uid, ips) {
      attempt(uid, 'written', () => {
        const known = added.get(uid)?.map(({ ip }) => ip) ?? [];
        if (known.some((ip) => !ips.includes(ip))) removeAll(uid);
        for (const ip of ips) if (!(added.get(uid) ?? []).some((entry) => entry.ip === ip)) add(uid, ip);
      });
    },
    remove: (uid) => attempt(uid, 'removed', () => removeAll(uid)),
  };
}
