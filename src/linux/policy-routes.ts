// One policy route of a network namespace, over netlink: packets with a mark are delivered locally, whatever their
// destination (man 7 rtnetlink; `ip rule … fwmark …` and `ip route … local default dev lo`).

import { AF_INET, AF_INET6 } from './libc.ts';
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

const NEW_ROUTE = 24;
const DEL_ROUTE = 25;
const NEW_RULE = 32;
const DEL_RULE = 33;
const RTPROT_BOOT = 3;
const RT_SCOPE_HOST = 254;
const RTN_LOCAL = 2;
const FR_ACT_TO_TBL = 1;
const RTA_OIF = 4;
const RTA_TABLE = 15;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
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
      send(netlink, NEW_RULE, NLM_CREATE | NLM_EXCLUSIVE, ruleMessage(family, delivery), [
        ...missing,
        EEXIST,
      ]);
    }),
  );
}

/** What is not there needs no removal. @throws MeshError SYSCALL_FAILED. */
export function removeLocalDelivery(netnsFd: number, delivery: LocalDelivery, ipv6: boolean): void {
  withNetlink(netnsFd, NETLINK_ROUTE, 'removing the return route', (netlink) =>
    eachFamily(ipv6, (family, missing) => {
      const gone = [...missing, ENOENT, ESRCH];
      send(netlink, DEL_RULE, 0, ruleMessage(family, delivery), gone);
      send(netlink, DEL_ROUTE, 0, routeMessage(family, delivery), gone);
    }),
  );
}

function eachFamily(ipv6: boolean, work: (family: number, missing: readonly number[]) => void): void {
  work(AF_INET, []);
  if (ipv6) work(AF_INET6, NO_IPV6);
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
function routeMessage(family: number, { table }: LocalDelivery): Buffer {
  return Buffer.concat([
    Buffer.of(family, 0, 0, 0, table, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0),
    attribute(RTA_TABLE, uint32(table)),
    attribute(RTA_OIF, uint32(LOOPBACK_INDEX)),
  ]);
}

/** struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved, action, flags (4). */
function ruleMessage(family: number, { mark, mask, table, priority }: LocalDelivery): Buffer {
  return Buffer.concat([
    Buffer.of(family, 0, 0, 0, table, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0),
    attribute(FRA_PRIORITY, uint32(priority)),
    attribute(FRA_FWMARK, uint32(mark)),
    attribute(FRA_FWMASK, uint32(mask)),
    attribute(FRA_TABLE, uint32(table)),
  ]);
}

/** In the byte order of the machine, unlike netfilter's. */
function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
