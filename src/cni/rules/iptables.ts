// The redirection of a pod as iptables-restore text, for one family at a time (cni.md A.7.1, A.7.6). Pure.
//
// `iptables-restore --noflush` changes a table in one step and empties each chain that the text declares: so our chains
// are replaced without a gap, and only the jumps into them must not be written twice.

import {
  CONNECTING_MARK,
  DNS_PORT,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  MARK_MASK,
  OUTBOUND_PORT,
  PROBE_SOURCE_V4,
  PROBE_SOURCE_V6,
  PROXIED_MARK,
  ZTUNNEL_MARK,
} from '../constants.ts';
import type { PodRuleOptions } from './nft.ts';

const PREROUTING = 'ISTIO_PRERT';
const OUTPUT = 'ISTIO_OUTPUT';
/** Built-in chain to ours. */
const HOOKS = { PREROUTING, OUTPUT } as const;
const TABLES = ['mangle', 'nat', 'raw'] as const;
type Table = (typeof TABLES)[number];

const masked = (mark: number): string => `0x${mark.toString(16)}/0x${MARK_MASK.toString(16)}`;
const FROM_ZTUNNEL = `-m mark --mark ${masked(ZTUNNEL_MARK)}`;
const NOT_FROM_ZTUNNEL = `-m mark ! --mark ${masked(ZTUNNEL_MARK)}`;

const CONNECTING_BIT = `0x${CONNECTING_MARK.toString(16)}`;
/** An older connection is no longer connecting when more than its first packet is seen. */
const CONNECTED = `-p tcp -m connmark --mark ${CONNECTING_BIT}/${CONNECTING_BIT} -m tcp ! --tcp-flags SYN SYN -j CONNMARK --set-xmark 0x0/${CONNECTING_BIT}`;
/** As in nft.ts: a new connection is not to go the way of an older one that has just ended. */
const dropStray = (where: string): string =>
  `${where} -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate ESTABLISHED -m conntrack ! --ctstate DNAT -m connmark --mark 0x0/${CONNECTING_BIT} ${NOT_FROM_ZTUNNEL} -j DROP`;

export type IptablesFamily = 4 | 6;
type Options = Omit<PodRuleOptions, 'ipv6'>;
type Rules = Readonly<Record<Table, Readonly<Record<string, readonly string[]>>>>;

/** What `iptables-save` told: rules of each chain, by `TABLE CHAIN`; also chains without any. */
export type SavedRules = ReadonlyMap<string, readonly string[]>;

/** Redirects new connections; idempotent on top of what `saved` shows. */
export function renderIptablesRules(family: IptablesFamily, options: Options, saved: SavedRules): string {
  const rules = podRules(family, options);
  return TABLES.map((table) =>
    table === 'raw' && !options.dnsCapture
      ? removeTable(table, saved)
      : writeTable(table, rules[table], saved),
  ).join('');
}

/** Connections are tracked from now on, and none is redirected. */
export function renderIptablesTracking(family: IptablesFamily, options: Options, saved: SavedRules): string {
  const { mangle, raw } = podRules(family, options);
  return writeTable('mangle', mangle, saved) + (options.dnsCapture ? writeTable('raw', raw, saved) : '');
}

/** New connections of a namespace that tracks them are redirected. */
export function renderIptablesSteering(family: IptablesFamily, options: Options, saved: SavedRules): string {
  return writeTable('nat', podRules(family, options).nat, saved);
}

/** Redirects nothing new; the jumps stay, and with them the translation of what is redirected already. */
export function renderIptablesRelease(saved: SavedRules): string {
  return writeTable('nat', { [PREROUTING]: [], [OUTPUT]: [] }, saved);
}

/** Empty when nothing of ours is there. */
export function renderIptablesRemoval(saved: SavedRules): string {
  return TABLES.map((table) => removeTable(table, saved)).join('');
}

export function parseIptablesSave(text: string): SavedRules {
  const saved = new Map<string, string[]>();
  let table = '';
  for (const line of text.split('\n')) {
    const [first = '', second = ''] = line.split(' ');
    if (first.startsWith('*')) table = first.slice(1);
    else if (first.startsWith(':')) saved.set(`${table} ${first.slice(1)}`, []);
    else if (first === '-A') saved.get(`${table} ${second}`)?.push(line.slice(`-A ${second} `.length));
  }
  return saved;
}

/** As many rules in each of our chains as planned, and every jump: `steering`. */
export function iptablesState(
  family: IptablesFamily,
  options: Options,
  saved: SavedRules,
): 'none' | 'steering' | 'other' {
  if (TABLES.every((table) => ourChains(table, saved).length === 0)) return 'none';
  const rules = podRules(family, options);
  const asPlanned = TABLES.every((table) => {
    if (table === 'raw' && !options.dnsCapture) return ourChains(table, saved).length === 0;
    return Object.entries(HOOKS).every(
      ([hook, chain]) =>
        saved.get(`${table} ${chain}`)?.length === rules[table][chain]?.length &&
        hasJump(table, hook, chain, saved),
    );
  });
  return asPlanned ? 'steering' : 'other';
}

function podRules(family: IptablesFamily, options: Options): Rules {
  const loopback = family === 4 ? '127.0.0.1/32' : '::1/128';
  const probe = family === 4 ? `${PROBE_SOURCE_V4}/32` : `${PROBE_SOURCE_V6}/128`;
  const inbound = options.virtualInterfaces.flatMap((name) => [
    `-i ${name} -p tcp -j REDIRECT --to-ports ${OUTBOUND_PORT}`,
    `-i ${name} -p tcp -j RETURN`,
  ]);
  if (!options.bypassInbound)
    inbound.push(
      `-s ${probe} -p tcp -j ACCEPT`,
      `! -d ${loopback} -p tcp ! --dport ${INBOUND_HBONE_PORT} ${NOT_FROM_ZTUNNEL} -j REDIRECT --to-ports ${INBOUND_PLAINTEXT_PORT}`,
    );
  const dns = [
    // By interface, not by address: a resolver on any loopback address is left alone.
    `! -o lo -p udp --dport 53 ${NOT_FROM_ZTUNNEL} -j REDIRECT --to-ports ${DNS_PORT}`,
    `! -d ${loopback} -p tcp --dport 53 ${NOT_FROM_ZTUNNEL} -j REDIRECT --to-ports ${DNS_PORT}`,
  ];
  return {
    mangle: {
      [PREROUTING]: [
        `${FROM_ZTUNNEL} -j CONNMARK --set-xmark ${masked(PROXIED_MARK)}`,
        CONNECTED,
        ...(options.bypassInbound
          ? []
          : [dropStray(`! -s ${probe} ! -i lo -p tcp -m tcp ! --dport ${INBOUND_HBONE_PORT}`)]),
      ],
      [OUTPUT]: [
        `-m connmark --mark ${masked(PROXIED_MARK)} -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff`,
        // The kernel translates no packet that it cannot place: what the application says would leave as it is. A reset says nothing.
        `! -o lo -p tcp -m conntrack --ctstate INVALID ${NOT_FROM_ZTUNNEL} -m tcp ! --tcp-flags RST RST -j DROP`,
        CONNECTED,
        dropStray(`! -d ${probe} ! -o lo -p tcp`),
      ],
    },
    nat: {
      [PREROUTING]: inbound,
      [OUTPUT]: [
        `-d ${probe} -p tcp -j ACCEPT`,
        ...(options.dnsCapture ? dns : []),
        `-p tcp -m mark --mark ${masked(PROXIED_MARK)} -j ACCEPT`,
        `! -d ${loopback} -o lo -j ACCEPT`,
        `! -d ${loopback} -p tcp ${NOT_FROM_ZTUNNEL} -j REDIRECT --to-ports ${OUTBOUND_PORT}`,
      ],
    },
    // ztunnel's own queries stay apart from the pod's in connection tracking.
    raw: {
      [PREROUTING]: [`-p udp --sport 53 ${NOT_FROM_ZTUNNEL} -j CT --zone 1`],
      [OUTPUT]: [`-p udp --dport 53 ${FROM_ZTUNNEL} -j CT --zone 1`],
    },
  };
}

function writeTable(table: Table, chains: Rules[Table], saved: SavedRules): string {
  const hooks = Object.entries(HOOKS);
  return block(table, [
    ...hooks.map(([, chain]) => `:${chain} - [0:0]`),
    ...hooks
      .filter(([hook, chain]) => !hasJump(table, hook, chain, saved))
      .map(([hook, chain]) => `-A ${hook} -j ${chain}`),
    ...hooks.flatMap(([, chain]) => (chains[chain] ?? []).map((rule) => `-A ${chain} ${rule}`)),
  ]);
}

/** The jumps first: a chain in use cannot be deleted. */
function removeTable(table: Table, saved: SavedRules): string {
  const chains = ourChains(table, saved);
  const jumps = Object.entries(HOOKS)
    .filter(([hook, chain]) => hasJump(table, hook, chain, saved))
    .map(([hook, chain]) => `-D ${hook} -j ${chain}`);
  const lines = [...jumps, ...chains.map((chain) => `-F ${chain}`), ...chains.map((chain) => `-X ${chain}`)];
  return lines.length === 0 ? '' : block(table, lines);
}

const block = (table: Table, lines: readonly string[]): string => `*${table}\n${lines.join('\n')}\nCOMMIT\n`;

const ourChains = (table: Table, saved: SavedRules): string[] =>
  Object.values(HOOKS).filter((chain) => saved.has(`${table} ${chain}`));

const hasJump = (table: Table, hook: string, chain: string, saved: SavedRules): boolean =>
  saved.get(`${table} ${hook}`)?.includes(`-j ${chain}`) ?? false;
