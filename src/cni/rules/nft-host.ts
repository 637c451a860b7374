// The node's side by nftables: probes get a source address that the pods' rules let pass (cni.md A.8, A.9).

import type { IpAddress } from '#net/ip.ts';
import { familyOf } from '#net/ip.ts';
import { NAT_TABLE, PROBE_SET_V4, PROBE_SET_V6 } from '../constants.ts';
import type { HostRules } from './host-probes.ts';
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

/** An address occurs once; the newest owner takes it over. */
export function renderProbeUpsert(options: HostRuleOptions, targets: readonly ProbeTarget[]): string {
  return targets
    .filter(({ ip }) => options.ipv6 || familyOf(ip) === 4)
    .map((target) => {
      // Adding what is there keeps the old comment: so add (to be sure it exists), delete, add.
      const bare = `element inet ${NAT_TABLE} ${probeSet(matchOf(target.ip))} { ${target.ip} }\n`;
      return `add ${bare}delete ${bare}${addElement(options, target)}`;
    })
    .join('');
}

export function renderProbeRemoval(options: HostRuleOptions, ips: readonly IpAddress[]): string {
  return ips
    .filter((ip) => options.ipv6 || familyOf(ip) === 4)
    .map((ip) => {
      const bare = `element inet ${NAT_TABLE} ${probeSet(matchOf(ip))} { ${ip} }\n`;
      return `add ${bare}delete ${bare}`;
    })
    .join('');
}

export function renderHostRemoval(): string {
  return dropTable(NAT_TABLE);
}

const matchOf = (ip: IpAddress): 'ip' | 'ip6' => (familyOf(ip) === 4 ? 'ip' : 'ip6');
const probeSet = (match: 'ip' | 'ip6'): string => (match === 'ip' ? PROBE_SET_V4 : PROBE_SET_V6);

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
    async change(dropped, added, purpose) {
      const text = renderProbeRemoval(options, dropped) + renderProbeUpsert(options, added);
      if (text !== '') await apply(text, purpose);
    },
    uninstall: () => apply(renderHostRemoval(), 'removing the rules for probes on the node'),
  };
}
