// The node's side: kubelet's probes of enrolled pods get a source address that the pods' rules let pass (cni.md A.9).
// An address has one owner, the pod that took it last; a late removal of an earlier owner changes nothing.

import type { IpAddress } from '#net/ip.ts';
import {
  type HostRuleOptions,
  type ProbeTarget,
  renderHostRemoval,
  renderHostRules,
  renderProbeRemoval,
  renderProbeUpsert,
} from './nft-host.ts';
import { runToolOrFail } from './run-tool.ts';

export interface HostProbes {
  /** Writes the node's table whole, in one transaction; earlier contents are replaced. */
  install(targets: readonly ProbeTarget[]): Promise<void>;
  /** The pod's addresses are exactly these from now on. */
  set(uid: string, ips: readonly IpAddress[]): Promise<void>;
  remove(uid: string): Promise<void>;
  /** Deletes the table. */
  uninstall(): Promise<void>;
}

/** Applies a ruleset in the node's namespace; replaced in unit tests. */
export type ApplyRuleset = (text: string, purpose: string) => Promise<void>;

const applyHere: ApplyRuleset = async (text, purpose) => {
  await runToolOrFail(undefined, ['nft', '-f', '-'], text, purpose);
};

export function createHostProbes(options: HostRuleOptions, apply: ApplyRuleset = applyHere): HostProbes {
  const owners = new Map<IpAddress, string>();
  const ownedBy = (uid: string): IpAddress[] =>
    [...owners].filter(([, owner]) => owner === uid).map(([ip]) => ip);

  // One change at a time: what is dropped and added is worked out from the owners as they stand, and pods that swap
  // addresses (after a restart of the node) would otherwise delete each other's.
  let last: Promise<void> = Promise.resolve();
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const turn = last.then(work);
    last = turn.catch(() => {}); // its caller hears of it; the next one must not
    return turn;
  };

  const change = async (
    text: string,
    purpose: string,
    wanted: readonly ProbeTarget[],
    dropped: readonly IpAddress[],
  ): Promise<void> => {
    if (text !== '') await apply(text, purpose);
    for (const ip of dropped) owners.delete(ip);
    for (const { ip, uid } of wanted) owners.set(ip, uid);
  };

  return {
    install: (targets) =>
      inTurn(async () => {
        await apply(renderHostRules(options, targets), 'installing the rules for probes on the node');
        owners.clear();
        for (const { ip, uid } of targets) owners.set(ip, uid);
      }),
    set: (uid, ips) =>
      inTurn(() => {
        const dropped = ownedBy(uid).filter((ip) => !ips.includes(ip));
        const added = ips.filter((ip) => owners.get(ip) !== uid).map((ip) => ({ ip, uid }));
        const text = renderProbeRemoval(options, dropped) + renderProbeUpsert(options, added);
        return change(text, `letting probes of pod ${uid} pass`, added, dropped);
      }),
    remove: (uid) =>
      inTurn(() => {
        const dropped = ownedBy(uid);
        return change(
          renderProbeRemoval(options, dropped),
          `forgetting the probes of pod ${uid}`,
          [],
          dropped,
        );
      }),
    uninstall: () =>
      inTurn(async () => {
        await apply(renderHostRemoval(), 'removing the rules for probes on the node');
        owners.clear();
      }),
  };
}
