// Which UDP flows through services lead nowhere any more (pure). TCP needs none of this: a dead connection is noticed.

import type { Endpoint, ServiceTarget } from './service-targets.ts';

/** The part of a tracked flow that tells. */
export interface UdpFlow {
  readonly to: Endpoint;
  readonly answeredBy: Endpoint;
}

const key = ({ ip, port }: Endpoint): string => `${ip}:${port}`;

/**
 * A test of flows to services that lost an endpoint between the two states; undefined when none did. Without a former state
 * (an earlier LOCAL knew it) every service may have lost one.
 */
export function staleUdpFlow(
  before: readonly ServiceTarget[] | undefined,
  after: readonly ServiceTarget[],
): ((flow: UdpFlow) => boolean) | undefined {
  const present = endpointsByAddress(after);
  const lost = new Map<string, ReadonlySet<string>>(before === undefined ? present : []);
  for (const [address, endpoints] of endpointsByAddress(before ?? [])) {
    const kept = present.get(address) ?? new Set();
    if ([...endpoints].some((endpoint) => !kept.has(endpoint))) lost.set(address, kept);
  }
  if (lost.size === 0) return undefined;
  return ({ to, answeredBy }) => {
    const kept = lost.get(key(to));
    return kept !== undefined && !kept.has(key(answeredBy));
  };
}

function endpointsByAddress(targets: readonly ServiceTarget[]): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const { protocol, address, port, endpoints, external } of targets) {
    if (protocol !== 'udp') continue;
    found.set(key({ ip: address, port }), new Set(endpoints.map(key)));
    for (const outside of external?.addresses ?? [])
      found.set(key(outside), new Set([...(external?.endpoints ?? [])].map(key)));
  }
  return found;
}
