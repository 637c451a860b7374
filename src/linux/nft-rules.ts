// How many rules each chain of the nftables family `inet` has in a network namespace, over netlink
// (include/uapi/linux/netfilter/nf_tables.h).

import { attributesOf, NETLINK_NETFILTER, NLM_DUMP, withNetlink } from './netlink.ts';

const NFT_GET_RULE = (10 << 8) | 7;
const NFPROTO_INET = 1;
/** struct nfgenmsg: family, version, resource. */
const FAMILY_HEADER_BYTES = 4;
const NFTA_RULE_TABLE = 1;
const NFTA_RULE_CHAIN = 2;

/** By `TABLE CHAIN`; chains without rules are not named. @throws MeshError SYSCALL_FAILED. */
export function countNftRules(netnsFd: number): ReadonlyMap<string, number> {
  const body = Buffer.of(NFPROTO_INET, 0, 0, 0);
  const payloads = withNetlink(netnsFd, NETLINK_NETFILTER, 'counting the nftables rules', (netlink) =>
    netlink.request({ type: NFT_GET_RULE, flags: NLM_DUMP, body }),
  );
  const counts = new Map<string, number>();
  for (const payload of payloads) {
    const attributes = attributesOf(payload.subarray(FAMILY_HEADER_BYTES));
    const place = [NFTA_RULE_TABLE, NFTA_RULE_CHAIN].map((type) => textOf(attributes.get(type))).join(' ');
    counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  return counts;
}

/** The kernel's strings end in a zero byte. */
const textOf = (bytes: Buffer | undefined): string => bytes?.toString('latin1', 0, bytes.length - 1) ?? '';
