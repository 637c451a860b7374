// Under which keys a proxy on demand finds an address, and whose subscribers get it unasked (control-plane.md §2.2, §4.4).

import type { Address } from '#model/address.ts';
import { formatCidr } from '#net/cidr.ts';
import { nodeKey } from '#xds/source.ts';

export interface ResourceKeys {
  /** `network/ip`; ranges as `network/ip/length`. */
  readonly aliases: readonly string[];
  /** A workload comes with its services, and to the proxy of its node. */
  readonly follows: readonly string[];
}

export function addressKeys(address: Address): ResourceKeys {
  if (address.kind === 'workload') {
    const { network, ips, node, services } = address.workload;
    return {
      aliases: ips.map((ip) => `${network}/${ip}`),
      follows: [...services.keys(), ...(node === '' ? [] : [nodeKey(node)])],
    };
  }
  const { vips, cidrVips } = address.service;
  return {
    aliases: [
      ...vips.map(({ network, ip }) => `${network}/${ip}`),
      ...cidrVips.map(({ network, cidr }) => `${network}/${formatCidr(cidr)}`),
    ],
    follows: [],
  };
}
