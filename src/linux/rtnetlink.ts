// What users of rtnetlink share (man 7 rtnetlink): numbers of linux/rtnetlink.h and linux/fib_rules.h, and the message of a
// policy rule.

import { familyOf, type IpAddress, ipToBytes } from '#net/ip.ts';
import { AF_INET, AF_INET6 } from './libc.ts';
import { attribute } from './netlink.ts';

export const NEW_RULE = 32;
export const DEL_RULE = 33;
export const RTA_OIF = 4;
export const RTA_TABLE = 15;
export const FRA_DST = 1;
export const FRA_IIFNAME = 3;
export const FRA_PRIORITY = 6;
export const FRA_TABLE = 15;
const FRA_FWMARK = 10;
const FRA_FWMASK = 16;
const FR_ACT_TO_TBL = 1;

export const numberOf = (family: 4 | 6): number => (family === 4 ? AF_INET : AF_INET6);

export interface RuleFacts {
  /** Looked up in it. */
  readonly table: number;
  readonly priority: number;
  /** Packets to this address alone. */
  readonly to?: IpAddress;
  /** Packets that arrive on this interface. */
  readonly inputInterface?: string;
  /** Packets whose mark is this one under the mask. */
  readonly mark?: { readonly value: number; readonly mask: number };
}

/** struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved, action, flags (4). */
export function ruleMessage(family: 4 | 6, { table, priority, to, inputInterface, mark }: RuleFacts): Buffer {
  const bits = to === undefined ? 0 : familyOf(to) === 4 ? 32 : 128;
  return Buffer.concat([
    Buffer.of(numberOf(family), bits, 0, 0, table & 0xff, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0),
    attribute(FRA_PRIORITY, uint32(priority)),
    attribute(FRA_TABLE, uint32(table)),
    ...(to === undefined ? [] : [attribute(FRA_DST, ipToBytes(to))]),
    ...(inputInterface === undefined ? [] : [attribute(FRA_IIFNAME, Buffer.from(`${inputInterface}\0`))]),
    ...(mark === undefined
      ? []
      : [attribute(FRA_FWMARK, uint32(mark.value)), attribute(FRA_FWMASK, uint32(mark.mask))]),
  ]);
}

/** In the byte order of the machine, unlike netfilter's. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
