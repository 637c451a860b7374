// What the mesh itself answers (ztunnel.md §10.2, §10.3): the addresses of a service it knows, or that it does not know
// the name and another server must be asked. Pure: chance comes in.

import type { Random } from '#base/clock.ts';
import type { Service } from '#model/service.ts';
import { type ServiceEntry, visible } from '#model/service-index.ts';
import type { StoreView } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import { familyOf, type IpAddress, type IpFamily } from '#net/ip.ts';
import { CLASS_IN, type LocalAnswer, type Query, TYPE_A, TYPE_AAAA } from './message.ts';
import { type Alias, aliasesOf, kubernetesSearchDomains, withWildcards } from './names.ts';

/** Endpoints of headless services change: asked again after this time. */
export const TTL_SECONDS = 30;

export interface ResolveOptions {
  readonly clusterDomain: string;
  /** Breaks ties after the client's own namespace and canonical services. */
  readonly preferredNamespace: string | undefined;
  /** False: no IPv6 address is given out. */
  readonly ipv6: boolean;
}

export type Resolution =
  | {
      readonly kind: 'answer';
      readonly answer: LocalAnswer;
      /** The field's words for the log. */
      readonly result: 'success' | 'no records' | 'service does not support this record type';
    }
  | { readonly kind: 'forward' };

const FORWARD: Resolution = { kind: 'forward' };

export function resolveQuery(
  view: StoreView,
  client: Workload,
  query: Query,
  random: Random,
  options: ResolveOptions,
): Resolution {
  const family = query.type === TYPE_A ? 4 : query.type === TYPE_AAAA ? 6 : undefined;
  if (family === undefined || query.class !== CLASS_IN || query.name === undefined) return FORWARD;
  return resolveName(view, client, { name: query.name, family }, random, options);
}

/** `name` in lower case, without the final dot. */
export function resolveName(
  view: StoreView,
  client: Workload,
  { name, family }: { readonly name: string; readonly family: IpFamily },
  random: Random,
  options: ResolveOptions,
): Resolution {
  const match = findService(view, client, name, options);
  if (match === undefined) return FORWARD;
  const { entry, alias, isWildcard } = match;
  const isAllowed = allows(entry.service, family) && (family === 4 || options.ipv6);
  const addresses = isAllowed ? shuffled(addressesOf(entry, client, family), random) : [];
  // A known name without such a record: it exists, so it is never NXDOMAIN.
  const isAlias = addresses.length > 0 && !isWildcard;
  return {
    kind: 'answer',
    answer: {
      canonicalName: isAlias ? alias.stripped : undefined,
      addresses,
      ttlSeconds: TTL_SECONDS,
    },
    result: !isAllowed
      ? 'service does not support this record type'
      : addresses.length === 0
        ? 'no records'
        : 'success',
  };
}

interface Match {
  readonly entry: ServiceEntry;
  readonly alias: Alias;
  readonly isWildcard: boolean;
}

function findService(
  view: StoreView,
  client: Workload,
  name: string,
  options: ResolveOptions,
): Match | undefined {
  const { clusterDomain } = options;
  const search = kubernetesSearchDomains(client.namespace, clusterDomain);
  for (const alias of aliasesOf(name, client.namespace, clusterDomain, search)) {
    for (const candidate of withWildcards(alias.name)) {
      const entry = pick(view.servicesByHostname(candidate), client, options);
      if (entry !== undefined) return { entry, alias, isWildcard: candidate.startsWith('*') };
    }
  }
  return undefined;
}

/** The client's own namespace, then canonical, then the preferred namespace, then the first. */
function pick(
  entries: readonly ServiceEntry[],
  client: Workload,
  { clusterDomain, preferredNamespace }: ResolveOptions,
): ServiceEntry | undefined {
  let best: ServiceEntry | undefined;
  let bestRank = -1;
  for (const entry of entries) {
    const { service } = entry;
    // Without an address of its own only a Kubernetes service is answered for (headless); others are asked for upstream.
    const isServed = service.vips.length > 0 || service.hostname.endsWith(`.svc.${clusterDomain}`);
    if (!isServed || !visible(service, client.namespace)) continue;
    const rank =
      service.namespace === client.namespace
        ? 3
        : service.canonical
          ? 2
          : service.namespace === preferredNamespace
            ? 1
            : 0;
    if (rank > bestRank) [best, bestRank] = [entry, rank];
  }
  return best;
}

function addressesOf({ service, endpoints }: ServiceEntry, client: Workload, family: IpFamily): IpAddress[] {
  if (service.vips.length > 0)
    return unique(
      service.vips
        .filter(({ network, ip }) => network === client.network && familyOf(ip) === family)
        .map(({ ip }) => ip),
    );
  // Headless: one address of every endpoint that may be used at all.
  const anyHealth = service.loadBalancer?.healthPolicy === 'AllowAll';
  const addresses: IpAddress[] = [];
  for (const workload of endpoints.values()) {
    if (!anyHealth && workload.status !== 'Healthy') continue;
    const address = workload.ips.find((ip) => familyOf(ip) === family);
    if (address !== undefined) addresses.push(address);
  }
  return unique(addresses);
}

/** A single-stack service stays so even when its headless endpoints have addresses of both families. */
function allows({ ipFamilies }: Service, family: IpFamily): boolean {
  return ipFamilies === undefined || ipFamilies === 'Dual' || ipFamilies === `IPv${family}`;
}

/** No record twice in one answer (RFC 2181 §5). */
function unique(addresses: readonly IpAddress[]): IpAddress[] {
  return [...new Set(addresses)];
}

/** Clients take the first address: without this a headless service would have one busy endpoint. */
function shuffled(addresses: IpAddress[], random: Random): IpAddress[] {
  for (let last = addresses.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [addresses[last], addresses[other]] = [addresses[other]!, addresses[last]!];
  }
  return addresses;
}
