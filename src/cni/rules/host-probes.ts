// The node's side: kubelet's probes of enrolled pods get a source address that the pods' rules let pass (cni.md A.9).
// An address has one owner, the pod that took it last; a late removal of an earlier owner changes nothing.

import type { IpAddress } from '#net/ip.ts';
import type { ProbeTarget } from './nft-host.ts';

/** The node's rules and sets, whichever tool writes them. */
export interface HostRules {
  /** Writes everything anew, in one step where the tool can. */
  install(targets: readonly ProbeTarget[]): Promise<void>;
  change(dropped: readonly IpAddress[], added: readonly ProbeTarget[], purpose: string): Promise<void>;
  uninstall(): Promise<void>;
}

export interface HostProbes {
  /** Writes the node's table whole, in one transaction; earlier contents are replaced. */
  install(targets: readonly ProbeTarget[]): Promise<void>;
  /** The pod's addresses are exactly these from now on. */
  set(uid: string, ips: readonly IpAddress[]): Promise<void>;
  remove(uid: string): Promise<void>;
  /** Deletes the table. */
  uninstall(): Promise<void>;
}

export function createHostProbes(rules: HostRules): HostProbes {
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
    purpose: string,
    wanted: readonly ProbeTarget[],
    dropped: readonly IpAddress[],
  ): Promise<void> => {
    if (wanted.length + dropped.length > 0) await rules.change(dropped, wanted, purpose);
    for (const ip of dropped) owners.delete(ip);
    for (const { ip, uid } of wanted) owners.set(ip, uid);
  };

  return {
    install: (targets) =>
      inTurn(async () => {
        await rules.install(targets);
        owners.clear();
        for (const { ip, uid } of targets) owners.set(ip, uid);
      }),
    set: (uid, ips) =>
      inTurn(() => {
        const dropped = ownedBy(uid).filter((ip) => !ips.includes(ip));
        const added = ips.filter((ip) => owners.get(ip) !== uid).map((ip) => ({ ip, uid }));
        return change(`letting probes of pod ${uid} pass`, added, dropped);
      }),
    remove: (uid) => inTurn(() => change(`forgetting the probes of pod ${uid}`, [], ownedBy(uid))),
    uninstall: () =>
      inTurn(async () => {
        await rules.uninstall();
        owners.clear();
      }),
  };
}
