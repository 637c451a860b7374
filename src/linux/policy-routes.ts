// One policy route of a network namespace, over netlink: packets with a mark are delivered locally, whatever their
// destination (man 7 rtnetlink; `ip rule … fwmark …` and `ip route … local default dev lo`).

import {
  attribute,
  EEXIST,
  ENOENT,
  NETLINK_ROUTE,
  type Netlink,
  NLM_ACK,
  NLM_CREATE,
  NLM_EXCLUSIVE,
  NLM_REPLACE,
  withNetlink,
} from './netlink.ts';
import { DEL_RULE, NEW_RULE, numberOf, RTA_OIF, RTA_TABLE, ruleMessage, uint32 } from './rtnetlink.ts';

const NEW_ROUTE = 24;
const DEL_ROUTE = 25;
const RTPROT_BOOT = 3;
const RT_SCOPE_HOST = 254;
const RTN_LOCAL = 2;
/** The loopback interface is the first of every namespace. */
const LOOPBACK_INDEX = 1;
const ESRCH = 3;
/** IPv6 switched off, in the kernel or on the loopback interface: nothing of it can arrive either. */
const NO_IPV6 = [13, 95, 97, 100]; // EACCES, EOPNOTSUPP, EAFNOSUPPORT, ENETDOWN

export interface LocalDelivery {
  readonly mark: number;
  readonly mask: number;
  readonly table: number;
  readonly priority: number;
}

/** Idempotent. The families are apart: what one has already must not keep the other from getting it. @throws MeshError SYSCALL_FAILED. */
export function addLocalDelivery(netnsFd: number, delivery: LocalDelivery, ipv6: boolean): void {
  withNetlink(netnsFd, NETLINK_ROUTE, 'adding the return route', (netlink) =>
    eachFamily(ipv6, (family, missing) => {
      send(netlink, NEW_ROUTE, NLM_CREATE | NLM_REPLACE, routeMessage(family, delivery), missing);
      send(netlink, NEW_RULE, NLM_CREATE | NLM_EXCLUSIVE, ruleOf(family, delivery), [...missing, EEXIST]);
    }),
  );
}

/** What is not there needs no removal. @throws MeshError SYSCALL_FAILED. */
export function removeLocalDelivery(netnsFd: number, delivery: LocalDelivery, ipv6: boolean): void {
  withNetlink(netnsFd, NETLINK_ROUTE, 'removing the return route', (netlink) =>
    eachFamily(ipv6, (family, missing) => {
      const gone = [...missing, ENOENT, ESRCH];
      send(netlink, DEL_RULE, 0, ruleOf(family, delivery), gone);
      send(netlink, DEL_ROUTE, 0, routeMessage(family, delivery), gone);
    }),
  );
}

function eachFamily(ipv6: boolean, work: (family: 4 | 6, missing: readonly number[]) => void): void {
  work(4, []);
  if (ipv6) work(6, NO_IPV6);
}

function send(
  netlink: Netlink,
  type: number,
  flags: number,
  body: Buffer,
  accepted: readonly number[],
): void {
  netlink.request({ type, flags: flags | NLM_ACK, body, accepted });
}

/** struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags (4). */
function routeMessage(family: 4 | 6, { table }: LocalDelivery): Buffer {
  return Buffer.concat([
    Buffer.of(numberOf(family), 0, 0, 0, table, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0),
    attribute(RTA_TABLE, uint32(table)),
    attribute(RTA_OIF, uint32(LOOPBACK_INDEX)),
  ]);
}

const ruleOf = (family: 4 | 6, { mark: value, mask, table, priority }: LocalDelivery): Buffer =>
  ruleMessage(family, { table, priority, mark: { value, mask } });
