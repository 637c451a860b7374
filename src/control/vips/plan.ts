// Which addresses the control plane gives to ServiceEntries that have none of their own (control-plane.md §2.14). Pure
// and deterministic: every replica and every restart plans alike, and what an entry has it keeps.

import { hash } from 'node:crypto';
import { objectKey } from '#k8s/informer.ts';
import type { ServiceEntry, ServiceEntryAddress } from '#k8s/mesh-objects.ts';
import type { Cidr } from '#net/cidr.ts';
import { familyOf, type IpAddress, ipFromBytes, ipToBytes, parseIp } from '#net/ip.ts';
import { isAllocatable } from '../ambient/service-entry.ts';

export interface Pools {
  readonly v4: Cidr;
  readonly v6: Cidr;
}

export interface Plan {
  /** By key of the entry: what its status has to say; empty for those that get none. */
  readonly addresses: ReadonlyMap<string, readonly ServiceEntryAddress[]>;
  /** `NAMESPACE/NAME HOST` of those for which a pool is used up. */
  readonly unserved: readonly string[];
}

export function planAddresses(entries: Iterable<ServiceEntry>, pools: Pools): Plan {
  const sorted = [...entries].sort((a, b) => (seniority(a) < seniority(b) ? -1 : 1));
  const held = holdings(sorted);
  const taken = new Set([...statedAddresses(sorted), ...[...held.values()].flatMap((it) => [...it])]);
  const unserved: string[] = [];
  const addresses = new Map<string, readonly ServiceEntryAddress[]>();
  for (const entry of sorted) {
    const key = objectKey(entry);
    const planned = allocatableHosts(entry).flatMap((host) => {
      const kept = held.get(holder(key, host)) ?? new Set();
      return ([4, 6] as const).flatMap((family) => {
        const own = [...kept].find((ip) => familyOf(ip) === family);
        const value = own ?? free(family === 4 ? pools.v4 : pools.v6, holder(key, host), taken);
        if (value === undefined) {
          unserved.push(holder(key, host));
          return [];
        }
        taken.add(value);
        return [{ value, host }];
      });
    });
    addresses.set(key, planned);
  }
  return { addresses, unserved };
}

const holder = (key: string, host: string): string => `${key} ${host}`;

/** The older an entry, the more its addresses are its own. */
const seniority = (entry: ServiceEntry): string =>
  `${entry.metadata.creationTimestamp ?? ''} ${objectKey(entry)}`;

function allocatableHosts(entry: ServiceEntry): string[] {
  return [...new Set(entry.spec?.hosts ?? [])].filter((host) => isAllocatable(entry, host));
}

/** What people wrote is theirs, whatever was allocated before. */
function statedAddresses(entries: readonly ServiceEntry[]): IpAddress[] {
  return entries.flatMap((entry) => (entry.spec?.addresses ?? []).flatMap((text) => parseIp(text) ?? []));
}

/** What each host keeps: one address of a family, unless somebody wrote it down or an older entry has it. */
function holdings(sorted: readonly ServiceEntry[]): Map<string, Set<IpAddress>> {
  const taken = new Set(statedAddresses(sorted));
  const held = new Map<string, Set<IpAddress>>();
  for (const entry of sorted)
    for (const host of allocatableHosts(entry)) {
      const own = new Set<IpAddress>();
      for (const { value, host: of } of entry.status?.addresses ?? []) {
        const ip = of === host ? parseIp(value) : undefined;
        if (ip === undefined || taken.has(ip) || [...own].some((other) => familyOf(other) === familyOf(ip)))
          continue;
        own.add(ip);
        taken.add(ip);
      }
      held.set(holder(objectKey(entry), host), own);
    }
  return held;
}

/** More would mean a pool that is all but used up. */
const MOST_TRIES = 65_536;

/** The name says where the search begins, so that who comes and goes does not move the others. */
function free(pool: Cidr, name: string, taken: ReadonlySet<IpAddress>): IpAddress | undefined {
  const bytes = ipToBytes(pool.address);
  const size = 1n << BigInt(bytes.length * 8 - pool.prefixLength);
  // Neither the name of the network nor its last address.
  const usable = size - 2n;
  if (usable <= 0n) return undefined;
  const start = BigInt(`0x${hash('sha256', name, 'hex').slice(0, 32)}`);
  const tries = usable < BigInt(MOST_TRIES) ? Number(usable) : MOST_TRIES;
  for (let attempt = 0; attempt < tries; attempt++) {
    const ip = addressAt(bytes, 1n + ((start + BigInt(attempt)) % usable));
    if (!taken.has(ip)) return ip;
  }
  return undefined;
}

function addressAt(network: Uint8Array, offset: bigint): IpAddress {
  const bytes = Uint8Array.from(network);
  let rest = offset;
  for (let index = bytes.length - 1; rest > 0n; index--) {
    bytes[index] = (bytes[index] ?? 0) | Number(rest & 0xffn);
    rest >>= 8n;
  }
  return ipFromBytes(bytes);
}
