// Policy rules of a network namespace, and where a single address is routed to, over netlink (man 7 rtnetlink, man 8 ip-rule).

import { type IpAddress, ipFromBytes } from '#net/ip.ts';
import {
  attributesOf,
  EEXIST,
  ENOENT,
  NETLINK_ROUTE,
  type Netlink,
  NLM_ACK,
  NLM_CREATE,
  NLM_DUMP,
  NLM_EXCLUSIVE,
  withNetlink,
} from './netlink.ts';
import {
  DEL_RULE,
  FRA_DST,
  FRA_IIFNAME,
  FRA_PRIORITY,
  FRA_TABLE,
  NEW_RULE,
  numberOf,
  RTA_OIF,
  RTA_TABLE,
  type RuleFacts,
  ruleMessage,
} from './rtnetlink.ts';

const GET_LINK = 18;
const GET_ROUTE = 26;
const GET_RULE = 34;
const RTA_DST = 1;
const IFLA_IFNAME = 3;
/** struct fib_rule_hdr and struct rtmsg have the same length, and the table at the same place. */
const HEADER_BYTES = 12;
const TABLE_AT = 4;
const LINK_HEADER_BYTES = 16;

export type IpRule = Omit<RuleFacts, 'mark'>;

export interface HostRoute {
  readonly to: IpAddress;
  readonly table: number;
  readonly outputInterface: string;
}

/** Rules with an input interface or to one address; others are not told. @throws MeshError SYSCALL_FAILED. */
export function listIpRules(netnsFd: number | undefined, family: 4 | 6): IpRule[] {
  return withNetlink(netnsFd, NETLINK_ROUTE, 'reading the ip rules', (netlink) =>
    dump(netlink, GET_RULE, family).flatMap((payload) => {
      const attributes = attributesOf(payload.subarray(HEADER_BYTES));
      const name = attributes.get(FRA_IIFNAME);
      const to = attributes.get(FRA_DST);
      if (name === undefined && to === undefined) return [];
      return [
        {
          table: attributes.get(FRA_TABLE)?.readUInt32LE(0) ?? payload[TABLE_AT]!,
          priority: attributes.get(FRA_PRIORITY)?.readUInt32LE(0) ?? 0,
          ...(name === undefined ? {} : { inputInterface: textOf(name) }),
          ...(to === undefined ? {} : { to: ipFromBytes(to) }),
        },
      ];
    }),
  );
}

/** Routes to single addresses (/32, /128) in all tables. @throws MeshError SYSCALL_FAILED. */
export function listHostRoutes(netnsFd: number | undefined, family: 4 | 6): HostRoute[] {
  return withNetlink(netnsFd, NETLINK_ROUTE, 'reading the routes', (netlink) => {
    const names = new Map(
      dump(netlink, GET_LINK, undefined).map((payload) => [
        payload.readInt32LE(4),
        textOf(attributesOf(payload.subarray(LINK_HEADER_BYTES)).get(IFLA_IFNAME)),
      ]),
    );
    return dump(netlink, GET_ROUTE, family).flatMap((payload) => {
      const attributes = attributesOf(payload.subarray(HEADER_BYTES));
      const to = attributes.get(RTA_DST);
      const name = names.get(attributes.get(RTA_OIF)?.readUInt32LE(0) ?? 0);
      if (to === undefined || name === undefined || payload[1] !== (family === 4 ? 32 : 128)) return [];
      const table = attributes.get(RTA_TABLE)?.readUInt32LE(0) ?? payload[TABLE_AT]!;
      return [{ to: ipFromBytes(to), table, outputInterface: name }];
    });
  });
}

/** One that is there already is no error. @throws MeshError SYSCALL_FAILED. */
export function addIpRule(netnsFd: number | undefined, family: 4 | 6, rule: IpRule): void {
  change(netnsFd, NEW_RULE, NLM_CREATE | NLM_EXCLUSIVE, family, rule, EEXIST);
}

/** One that is gone already is no error. @throws MeshError SYSCALL_FAILED. */
export function removeIpRule(netnsFd: number | undefined, family: 4 | 6, rule: IpRule): void {
  change(netnsFd, DEL_RULE, 0, family, rule, ENOENT);
}

function change(
  netnsFd: number | undefined,
  type: number,
  flags: number,
  family: 4 | 6,
  rule: IpRule,
  accepted: number,
): void {
  const body = ruleMessage(family, rule);
  withNetlink(netnsFd, NETLINK_ROUTE, 'changing the ip rules', (netlink) =>
    netlink.request({ type, flags: flags | NLM_ACK, body, accepted: [accepted] }),
  );
}

function dump(netlink: Netlink, type: number, family: 4 | 6 | undefined): Buffer[] {
  const body = Buffer.alloc(type === GET_LINK ? LINK_HEADER_BYTES : HEADER_BYTES);
  body[0] = family === undefined ? 0 : numberOf(family);
  return netlink.request({ type, flags: NLM_DUMP, body });
}

/** The kernel's strings end in a zero byte. */
const textOf = (bytes: Buffer | undefined): string => bytes?.toString('latin1', 0, bytes.length - 1) ?? '';
