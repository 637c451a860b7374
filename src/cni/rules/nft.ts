// The redirection as nftables text: one transaction for a pod, one for a node (cni.md A.7.1, A.8, A.9.1). Pure.
// Order matters: the kernel takes the first rule that matches.

import type { IpAddress } from '#net/ip.ts';
import { familyOf } from '#net/ip.ts';
import {
  DNS_PORT,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  MANGLE_TABLE,
  MARK_MASK,
  NAT_TABLE,
  OUTBOUND_PORT,
  PROBE_SET_V4,
  PROBE_SET_V6,
  PROBE_SOURCE_V4,
  PROBE_SOURCE_V6,
  PROXIED_MARK,
  RAW_TABLE,
  ZTUNNEL_MARK,
} from '../constants.ts';

export interface PodRuleOptions {
  readonly ipv6: boolean;
  readonly dnsCapture: boolean;
  /** Inbound plaintext reaches the application directly; HBONE still ends in ztunnel. */
  readonly bypassInbound: boolean;
  /** TCP that arrives on these is the pod's own outbound traffic (virtual machines inside the pod). */
  readonly virtualInterfaces: readonly string[];
}

const hex = (value: number): string => `0x${value.toString(16)}`;
const FROM_ZTUNNEL = `meta mark & ${hex(MARK_MASK)} == ${hex(ZTUNNEL_MARK)}`;
const NOT_FROM_ZTUNNEL = `meta mark & ${hex(MARK_MASK)} != ${hex(ZTUNNEL_MARK)}`;
const TCP = 'meta l4proto tcp';

interface Family {
  readonly match: 'ip' | 'ip6';
  readonly loopback: string;
  readonly probeSource: string;
}
const V4: Family = { match: 'ip', loopback: '127.0.0.1', probeSource: PROBE_SOURCE_V4 };
const V6: Family = { match: 'ip6', loopback: '::1', probeSource: PROBE_SOURCE_V6 };

/** Idempotent: whatever stood in our tables is replaced in the same transaction, so the pod is never half captured. */
export function renderPodRules(options: PodRuleOptions): string {
  const families = options.ipv6 ? [V4, V6] : [V4];
  const eachFamily = (rule: (family: Family) => string): string[] => families.map(rule);

  const prerouting = options.virtualInterfaces.flatMap((name) => [
    `iifname "${name}" ${TCP} counter redirect to :${OUTBOUND_PORT}`,
    `iifname "${name}" ${TCP} counter return`,
  ]);
  if (!options.bypassInbound) {
    prerouting.push(
      ...eachFamily(({ match, probeSource }) => `${match} saddr ${probeSource} ${TCP} counter accept`),
      ...eachFamily(
        ({ match, loopback }) =>
          `${match} daddr != ${loopback} tcp dport != ${INBOUND_HBONE_PORT} ${NOT_FROM_ZTUNNEL} counter redirect to :${INBOUND_PLAINTEXT_PORT}`,
      ),
    );
  }

  const output = eachFamily(
    ({ match, probeSource }) => `${match} daddr ${probeSource} ${TCP} counter accept`,
  );
  if (options.dnsCapture) {
    // By interface, not by address: a resolver on any loopback address is left alone.
    const family = options.ipv6 ? '' : 'meta nfproto ipv4 ';
    output.push(
      `${family}oifname != "lo" udp dport 53 ${NOT_FROM_ZTUNNEL} counter redirect to :${DNS_PORT}`,
      ...eachFamily(
        ({ match, loopback }) =>
          `${match} daddr != ${loopback} tcp dport 53 ${NOT_FROM_ZTUNNEL} counter redirect to :${DNS_PORT}`,
      ),
    );
  }
  output.push(
    `${TCP} meta mark & ${hex(MARK_MASK)} == ${hex(PROXIED_MARK)} counter accept`,
    ...eachFamily(({ match, loopback }) => `oifname "lo" ${match} daddr != ${loopback} counter accept`),
    ...eachFamily(
      ({ match, loopback }) =>
        `${match} daddr != ${loopback} ${TCP} ${NOT_FROM_ZTUNNEL} counter redirect to :${OUTBOUND_PORT}`,
    ),
  );

  const keepUpperBits = hex(0xffffffff - MARK_MASK);
  const tables = [
    renderTable(NAT_TABLE, [
      ...chainPair(NAT_TABLE, 'prerouting', 'type nat hook prerouting priority -100', prerouting),
      ...chainPair(NAT_TABLE, 'output', 'type nat hook output priority -100', output),
    ]),
    renderTable(MANGLE_TABLE, [
      ...chainPair(MANGLE_TABLE, 'prerouting', 'type filter hook prerouting priority -150', [
        `${FROM_ZTUNNEL} counter ct mark set ct mark & ${keepUpperBits} | ${hex(PROXIED_MARK)}`,
      ]),
      // Type route: the new mark chooses the route again.
      ...chainPair(MANGLE_TABLE, 'output', 'type route hook output priority -150', [
        `ct mark & ${hex(MARK_MASK)} == ${hex(PROXIED_MARK)} counter meta mark set ct mark`,
      ]),
    ]),
    options.dnsCapture
      ? renderTable(RAW_TABLE, [
          // ztunnel's own queries stay apart from the pod's in connection tracking.
          ...chainPair(RAW_TABLE, 'prerouting', 'type filter hook prerouting priority -300', [
            `udp sport 53 ${NOT_FROM_ZTUNNEL} counter ct zone set 1`,
          ]),
          ...chainPair(RAW_TABLE, 'output', 'type filter hook output priority -300', [
            `udp dport 53 ${FROM_ZTUNNEL} counter ct zone set 1`,
          ]),
        ])
      : dropTable(RAW_TABLE),
  ];
  return tables.join('');
}

/** Removes everything that `renderPodRules` makes; not an error where nothing is. */
export function renderPodRemoval(): string {
  return [NAT_TABLE, MANGLE_TABLE, RAW_TABLE].map(dropTable).join('');
}

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

function dropTable(name: string): string {
  // Added first, so that deleting cannot fail.
  return `add table inet ${name}\ndelete table inet ${name}\n`;
}

function renderTable(name: string, lines: readonly string[]): string {
  return `add table inet ${name}\nflush table inet ${name}\n${lines.join('')}`;
}

/** A base chain that jumps to a regular chain of ours which holds the rules. */
function chainPair(table: string, hook: string, declaration: string, rules: readonly string[]): string[] {
  const ours = `istio-${hook}`;
  return [
    `add chain inet ${table} ${ours}\n`,
    `add chain inet ${table} ${hook} { ${declaration}; policy accept; }\n`,
    `add rule inet ${table} ${hook} counter jump ${ours}\n`,
    ...rules.map((rule) => `add rule inet ${table} ${ours} ${rule}\n`),
  ];
}
