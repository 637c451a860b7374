// The redirection of a pod as nftables text, each a transaction of its own (cni.md A.7.1, A.8). Pure.
// Order matters: the kernel takes the first rule that matches.

import {
  CONNECTING_MARK,
  DNS_PORT,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  MANGLE_TABLE,
  MARK_MASK,
  NAT_TABLE,
  OUTBOUND_PORT,
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
export const TCP = 'meta l4proto tcp';
const IPV4_ONLY = 'meta nfproto ipv4 ';

export interface Family {
  readonly match: 'ip' | 'ip6';
  readonly loopback: string;
  readonly probeSource: string;
}
export const V4: Family = { match: 'ip', loopback: '127.0.0.1', probeSource: PROBE_SOURCE_V4 };
export const V6: Family = { match: 'ip6', loopback: '::1', probeSource: PROBE_SOURCE_V6 };

/** Idempotent: whatever stood in our tables is replaced in the same transaction, so the pod is never half captured. */
export function renderPodRules(options: PodRuleOptions): string {
  return renderSteering(options) + renderTracking(options) + (options.dnsCapture ? '' : dropTable(RAW_TABLE));
}

/**
 * Redirects nothing new; what is redirected already goes on, because the kernel translates as long as the chains stand.
 * A rule before all others, in those of our chains that have any: a transaction that deletes, or that names a chain again,
 * waits for every processor.
 */
export function renderRelease(present: ReadonlyMap<string, number>): string {
  return Object.keys(NAT_HOOKS)
    .map((hook) => `${NAT_TABLE} ${chainOf(hook)}`)
    .filter((place) => present.has(place))
    .map((place) => `insert rule inet ${place} counter accept\n`)
    .join('');
}

/** Removes everything that `renderPodRules` makes; not an error where nothing is. */
export function renderPodRemoval(): string {
  return [NAT_TABLE, MANGLE_TABLE, RAW_TABLE].map(dropTable).join('');
}

/** The half of `renderPodRules` that redirects. */
export function renderSteering(options: PodRuleOptions): string {
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
    output.push(
      `${options.ipv6 ? '' : IPV4_ONLY}oifname != "lo" udp dport 53 ${NOT_FROM_ZTUNNEL} counter redirect to :${DNS_PORT}`,
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

  return renderTable(NAT_TABLE, [
    ...chainPair(NAT_TABLE, 'prerouting', NAT_HOOKS.prerouting, prerouting),
    ...chainPair(NAT_TABLE, 'output', NAT_HOOKS.output, output),
  ]);
}

const NAT_HOOKS = {
  prerouting: 'type nat hook prerouting priority -100',
  output: 'type nat hook output priority -100',
} as const;

/**
 * The other half: the marks that bring replies back to ztunnel, and zones for its DNS. With them the kernel begins to track
 * connections; none is redirected.
 */
export function renderTracking({ dnsCapture, ipv6, bypassInbound }: PodRuleOptions): string {
  const families = ipv6 ? [V4, V6] : [V4];
  const keepUpperBits = hex(0xffffffff - MARK_MASK);
  const mangle = renderTable(MANGLE_TABLE, [
    ...chainPair(MANGLE_TABLE, 'prerouting', 'type filter hook prerouting priority -150', [
      `${FROM_ZTUNNEL} counter ct mark set ct mark & ${keepUpperBits} | ${hex(PROXIED_MARK)}`,
      CONNECTED,
      ...(bypassInbound ? [] : families)
        .map(
          ({ match, probeSource }) =>
            `iifname != "lo" ${match} saddr != ${probeSource} tcp dport != ${INBOUND_HBONE_PORT}`,
        )
        .map(dropStray),
    ]),
    // Type route: the new mark chooses the route again.
    ...chainPair(MANGLE_TABLE, 'output', 'type route hook output priority -150', [
      `ct mark & ${hex(MARK_MASK)} == ${hex(PROXIED_MARK)} counter meta mark set ct mark`,
      // The kernel translates no packet that it cannot place: what the application says would leave as it is. A reset says nothing.
      `${ipv6 ? '' : IPV4_ONLY}ct state invalid oifname != "lo" ${NOT_FROM_ZTUNNEL} tcp flags & rst == 0 counter drop`,
      CONNECTED,
      ...families
        .map(({ match, probeSource }) => `oifname != "lo" ${match} daddr != ${probeSource}`)
        .map(dropStray),
    ]),
  ]);
  if (!dnsCapture) return mangle;
  // ztunnel's own queries stay apart from the pod's in connection tracking.
  return (
    mangle +
    renderTable(RAW_TABLE, [
      ...chainPair(RAW_TABLE, 'prerouting', 'type filter hook prerouting priority -300', [
        `udp sport 53 ${NOT_FROM_ZTUNNEL} counter ct zone set 1`,
      ]),
      ...chainPair(RAW_TABLE, 'output', 'type filter hook output priority -300', [
        `udp dport 53 ${FROM_ZTUNNEL} counter ct zone set 1`,
      ]),
    ])
  );
}

/** An older connection is no longer connecting when more than its first packet is seen. */
const CONNECTED = `ct mark & ${hex(CONNECTING_MARK)} != 0 tcp flags & syn == 0 counter ct mark set ct mark & ${hex(0xffffffff - CONNECTING_MARK)}`;

/**
 * A new connection may have the ports of an older one that has just ended (reset by its far end, it is remembered for ten
 * seconds): the kernel would let it go the way of that one, past ztunnel. Its first packet is sent again in a second.
 */
const dropStray = (where: string): string =>
  `${where} tcp flags & (fin | syn | rst | ack) == syn ct state established ct status & dnat == 0 ct mark & ${hex(CONNECTING_MARK)} == 0 ${NOT_FROM_ZTUNNEL} counter drop`;

/** Rules of each chain, by `TABLE CHAIN`, that such a transaction writes. */
export function countRules(text: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const [, table, chain] of text.matchAll(/^add rule inet (\S+) (\S+) /gm)) {
    const place = `${table} ${chain}`;
    counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  return counts;
}

export function dropTable(name: string): string {
  // Added first, so that deleting cannot fail.
  return `add table inet ${name}\ndelete table inet ${name}\n`;
}

export function renderTable(name: string, lines: readonly string[]): string {
  return `add table inet ${name}\nflush table inet ${name}\n${lines.join('')}`;
}

/** A base chain that jumps to a regular chain of ours which holds the rules. */
export function chainPair(
  table: string,
  hook: string,
  declaration: string,
  rules: readonly string[],
): string[] {
  const ours = chainOf(hook);
  return [
    `add chain inet ${table} ${ours}\n`,
    `add chain inet ${table} ${hook} { ${declaration}; policy accept; }\n`,
    `add rule inet ${table} ${hook} counter jump ${ours}\n`,
    ...rules.map((rule) => `add rule inet ${table} ${ours} ${rule}\n`),
  ];
}

const chainOf = (hook: string): string => `istio-${hook}`;
