// How many rules each chain of the nftables family `inet` has in a network namespace, over netlink, and when they change
// (include/uapi/linux/netfilter/nf_tables.h).

import { readSync } from 'node:fs';
import { errnoOf } from '#base/errors.ts';
import { READABLE, watchFd } from './fd-watch.ts';
import { check, libc, SOCK_CLOEXEC, SOCK_NONBLOCK } from './libc.ts';
import { AF_NETLINK, attributesOf, NETLINK_NETFILTER, NLM_DUMP, SOCK_RAW, withNetlink } from './netlink.ts';
import { closeFd, inNetns } from './netns.ts';

const NFT_GET_RULE = (10 << 8) | 7;
const NFPROTO_INET = 1;
/** struct nfgenmsg: family, version, resource. */
const FAMILY_HEADER_BYTES = 4;
const NFTA_RULE_TABLE = 1;
const NFTA_RULE_CHAIN = 2;
const NFNLGRP_NFTABLES = 7;
const DRAIN_BYTES = 64 * 1024;

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

/**
 * Tells when nftables of a namespace are changed by anybody (also through iptables-nft), ourselves included. Main thread only.
 * @throws MeshError SYSCALL_FAILED.
 */
export function watchNft(netnsFd: number, onChange: () => void): { close(): void } {
  const context = 'watching the nftables of a namespace';
  const type = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const fd = inNetns(netnsFd, () =>
    check(libc.socket(AF_NETLINK, type, NETLINK_NETFILTER), 'socket', context),
  );
  try {
    // struct sockaddr_nl: family, pad, port (the kernel chooses), groups.
    const address = Buffer.alloc(12);
    address.writeUInt16LE(AF_NETLINK, 0);
    address.writeUInt32LE(1 << (NFNLGRP_NFTABLES - 1), 8);
    check(libc.bind(fd, address, address.length), 'bind', context);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  const watch = watchFd(fd, READABLE, () => {
    drain(fd);
    onChange();
  });
  return {
    close() {
      watch.close();
      closeFd(fd);
    },
  };
}

/** What has changed does not matter; nor does it when there was too much to be told (ENOBUFS). */
function drain(fd: number): void {
  const buffer = Buffer.allocUnsafe(DRAIN_BYTES);
  for (;;) {
    try {
      if (readSync(fd, buffer, 0, DRAIN_BYTES, null) === 0) return;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'EAGAIN') return;
      if (errno !== 'ENOBUFS') throw error;
    }
  }
}
