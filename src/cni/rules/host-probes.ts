// The node's side: kubelet's probes of enrolled pods get a source address that the pods' rules let pass (cni.md A.9).
// An address has one owner, the pod that took it last; a late removal of an earlier owner changes nothing.

import type { IpAddress } from '#net/ip.ts';
import type { ProbeTarget } from './nft-host.ts';

export interface ProbeChange {
  readonly dropped: readonly IpAddress[];
  readonly added: readonly ProbeTarget[];
  /** Addresses that go from one owner to another. */
  readonly replaced: readonly ProbeTarget[];
}

/** The node's rules and sets, whichever tool writes them. */
export interface HostRules {
  /** Writes everything anew, in one step where the tool can. */
  install(targets: readonly ProbeTarget[]): Promise<void>;
  change(change: ProbeChange, purpose: string): Promise<void>;
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
  let owners: ReadonlyMap<IpAddress, string> = new Map();
  /** Addresses by pod that the next change brings about; what is asked for while one is written shares the next. */
  let next:
    | { readonly wishes: Map<string, readonly IpAddress[]>; readonly written: Promise<void> }
    | undefined;

  // One change at a time: what is dropped and added is worked out from the owners as they stand, and pods that swap
  // addresses (after a restart of the node) would otherwise delete each other's.
  let last: Promise<void> = Promise.resolve();
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const turn = last.then(work);
    last = turn.catch(() => {}); // its caller hears of it; the next one must not
    return turn;
  };

  function ask(uid: string, ips: readonly IpAddress[]): Promise<void> {
    if (next === undefined) {
      const wishes = new Map<string, readonly IpAddress[]>();
      const written = inTurn(() => {
        next = undefined;
        return write(wishes);
      });
      next = { wishes, written };
    }
    // Of two wishes of a pod the later one holds, and comes after everybody else's.
    next.wishes.delete(uid);
    next.wishes.set(uid, ips);
    return next.written;
  }

  async function write(wishes: ReadonlyMap<string, readonly IpAddress[]>): Promise<void> {
    const wanted = new Map([...owners].filter(([ip, uid]) => wishes.get(uid)?.includes(ip) ?? true));
    for (const [uid, ips] of wishes) for (const ip of ips) wanted.set(ip, uid);
    const changed = [...wanted]
      .map(([ip, uid]) => ({ ip, uid }))
      .filter(({ ip, uid }) => owners.get(ip) !== uid);
    const change: ProbeChange = {
      dropped: [...owners.keys()].filter((ip) => !wanted.has(ip)),
      added: changed.filter(({ ip }) => !owners.has(ip)),
      replaced: changed.filter(({ ip }) => owners.has(ip)),
    };
    if (change.dropped.length + changed.length > 0)
      await rules.change(change, `telling the node whose probes pass (${wishes.size} pods)`);
    owners = wanted;
  }

  return {
    install: (targets) =>
      inTurn(async () => {
        await rules.install(targets);
        owners = new Map(targets.map(({ ip, uid }) => [ip, uid]));
      }),
    set: ask,
    remove: (uid) => ask(uid, []),
    uninstall: () =>
      inTurn(async () => {
        await rules.uninstall();
        owners = new Map();
      }),
  };
}
