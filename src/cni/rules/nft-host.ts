// The node's side by nftables: probes get a source address that the pods' rules let pass (cni.md A.8, A.9).

import type { IpAddress } from '#net/ip.ts';
import { familyOf } from '#net/ip.ts';
import { NAT_TABLE, PROBE_SET_V4, PROBE_SET_V6 } from '../constants.ts';
import type { HostRules, ProbeChange } from './host-probes.ts';
import { chainPair, dropTable, renderTable, TCP, V4, V6 } from './nft.ts';
import { runToolOrFail } from './run-tool.ts';

export interface ProbeTarget {
  readonly ip: IpAddress;
  /** Becomes the element's comment, for people. */
  readonly uid: string;
}

export interface HostRuleOptions {
  readonly ipv6: boolean;
  /** Whose sockets count as probes. */
  readonly kubeletUid: number;
}

/** The node's table, whole: probes of these pods, and of no others, are marked by their source address. */
export function renderHostRules(options: HostRuleOptions, targets: readonly ProbeTarget[]): string {
  const families = options.ipv6 ? [V4, V6] : [V4];
  const rules = families.map(
    ({ match, probeSource }) =>
      `${TCP} meta skuid ${options.kubeletUid} ${match} daddr @${probeSet(match)} counter snat ${match} to ${probeSource}`,
  );
  const sets = families.map(
    ({ match }) =>
      `add set inet ${NAT_TABLE} ${probeSet(match)} { type ${match === 'ip' ? 'ipv4_addr' : 'ipv6_addr'}; }\n` +
      `flush set inet ${NAT_TABLE} ${probeSet(match)}\n`,
  );
  return [
    renderTable(NAT_TABLE, sets),
    ...targets.map((target) => addElement(options, target)),
    ...chainPair(NAT_TABLE, 'postrouting', 'type nat hook postrouting priority 100', rules),
  ].join('');
}

/** No address is deleted without need: a transaction with a deletion waits until no processor uses what was deleted. */
function renderChange(options: HostRuleOptions, { dropped, added, replaced }: ProbeChange): string {
  return [
    ...dropped.map((ip) => deleteElement(options, ip)),
    ...added.map((target) => addElement(options, target)),
    // Adding what is there would keep the old comment.
    ...replaced.map((target) => deleteElement(options, target.ip) + addElement(options, target)),
  ].join('');
}

export function renderHostRemoval(): string {
  return dropTable(NAT_TABLE);
}

const matchOf = (ip: IpAddress): 'ip' | 'ip6' => (familyOf(ip) === 4 ? 'ip' : 'ip6');
const probeSet = (match: 'ip' | 'ip6'): string => (match === 'ip' ? PROBE_SET_V4 : PROBE_SET_V6);

/** Added first, so that deleting cannot fail. */
function deleteElement(options: HostRuleOptions, ip: IpAddress): string {
  if (!options.ipv6 && familyOf(ip) === 6) return '';
  const element = `element inet ${NAT_TABLE} ${probeSet(matchOf(ip))} { ${ip} }\n`;
  return `add ${element}delete ${element}`;
}

function addElement(options: HostRuleOptions, { ip, uid }: ProbeTarget): string {
  if (!options.ipv6 && familyOf(ip) === 6) return '';
  const comment = uid.replace(/[^A-Za-z0-9.-]/g, '');
  return `add element inet ${NAT_TABLE} ${probeSet(matchOf(ip))} { ${ip} comment "${comment}" }\n`;
}

/** Applies a ruleset in the node's namespace; replaced in tests. */
export type ApplyRuleset = (text: string, purpose: string) => Promise<void>;

const applyHere: ApplyRuleset = async (text, purpose) => {
  await runToolOrFail(undefined, ['nft', '-f', '-'], text, purpose);
};

export function nftHostRules(options: HostRuleOptions, apply: ApplyRuleset = applyHere): HostRules {
  return {
    install: (targets) =>
      apply(renderHostRules(options, targets), 'installing the rules for probes on the node'),
    async change(change, purpose) {
      const text = renderChange(options, change);
      if (text !== '') await apply(text, purpose);
    },
    uninstall: () => apply(renderHostRemoval(), 'removing the rules for probes on the node'),
  };
}
