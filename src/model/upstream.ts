// From an address, or a reference to a waypoint or gateway, to a workload and a port (ztunnel.md §6.3, §6.6).

import type { Random } from '#base/clock.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';
import { type SelectionMode, selectEndpoint } from './load-balance.ts';
import type { Service } from './service.ts';
import type { ServiceEntry } from './service-index.ts';
import type { StoreView } from './store.ts';
import { type GatewayRef, serviceKey, type Workload, type WorkloadUid } from './workload.ts';

export interface Upstream {
  readonly workload: Workload;
  /** The service the workload was reached through. */
  readonly entry: ServiceEntry | undefined;
  readonly port: number;
}

export type UpstreamResult =
  | { readonly kind: 'found'; readonly upstream: Upstream }
  /** Nothing in the mesh has the address. */
  | { readonly kind: 'unknown' }
  /** The service asks not to be load-balanced: the original destination stands. */
  | { readonly kind: 'passthrough'; readonly entry: ServiceEntry }
  /** A service has the address, but nobody can serve it. */
  | { readonly kind: 'empty'; readonly entry: ServiceEntry; readonly explain: string };

export interface UpstreamQuery {
  readonly view: StoreView;
  readonly source: Workload;
  readonly random: Random;
  /** Endpoints that failed this connection already: chosen only when nobody else can be. */
  readonly avoid?: ReadonlySet<WorkloadUid>;
}

/** Services before workloads: the opposite of deciding whether a connection was addressed to a service (§6.2). */
export function findUpstream(
  query: UpstreamQuery,
  network: string,
  ip: IpAddress,
  port: number,
  mode: SelectionMode = 'standard',
): UpstreamResult {
  const { view, source } = query;
  const entry = view.serviceByVip(network, ip, source.namespace);
  if (entry?.service.loadBalancer?.mode === 'Passthrough') return { kind: 'passthrough', entry };
  if (entry !== undefined) return throughService(query, entry, port, mode);
  const workload = view.workloadByIp(network, ip);
  return workload === undefined
    ? { kind: 'unknown' }
    : { kind: 'found', upstream: { workload, entry: undefined, port } };
}

export type GatewayResult =
  | { readonly kind: 'found'; readonly upstream: Upstream; readonly addressTarget: IpAddress | undefined }
  | { readonly kind: 'dangling'; readonly explain: string };

/**
 * A reference that leads nowhere is `dangling`: traffic that needs it is refused, never sent around it. Waypoints are
 * looked for in mode `waypoint`, network gateways in mode `standard`.
 */
export function findGateway(query: UpstreamQuery, reference: GatewayRef, mode: SelectionMode): GatewayResult {
  const { destination, hbonePort } = reference;
  if (destination.kind === 'address') {
    const { network, ip } = destination.address;
    const result = findUpstream(query, network, ip, hbonePort, mode);
    return asGateway(result, reference, ip);
  }
  const { namespace, hostname } = destination;
  const entry = query.view.service(serviceKey(namespace, hostname));
  if (entry !== undefined)
    return asGateway(throughService(query, entry, hbonePort, mode), reference, undefined);
  const workload = query.view.workloadByHostname(namespace, hostname);
  if (workload === undefined) return asGateway({ kind: 'unknown' }, reference, undefined);
  return {
    kind: 'found',
    upstream: { workload, entry: undefined, port: hbonePort },
    addressTarget: undefined,
  };
}

export function showGateway({ destination, hbonePort }: GatewayRef): string {
  return destination.kind === 'address'
    ? `${destination.address.network}/${destination.address.ip} port ${hbonePort}`
    : `${destination.namespace}/${destination.hostname} port ${hbonePort}`;
}

/**
 * Which of a workload's addresses to dial for a connection to `target`: that very address, else one of its family, else
 * any, within the families the service allows. Undefined when there is none.
 */
export function pickIp(
  workload: Workload,
  target: IpAddress,
  ipFamilies: Service['ipFamilies'],
): IpAddress | undefined {
  if (workload.ips.includes(target)) return target;
  const allowed = workload.ips.filter((candidate) => allows(ipFamilies, candidate));
  return allowed.find((candidate) => familyOf(candidate) === familyOf(target)) ?? allowed[0];
}

/** One of a host name's addresses for a connection to `target`: of its family if there are any (ztunnel.md §6.3). */
export function pickResolved(
  addresses: readonly IpAddress[],
  target: IpAddress,
  random: Random,
): IpAddress | undefined {
  const alike = addresses.filter((address) => familyOf(address) === familyOf(target));
  const group = alike.length > 0 ? alike : addresses;
  return group[Math.floor(random() * group.length)];
}

function allows(ipFamilies: Service['ipFamilies'], candidate: IpAddress): boolean {
  if (ipFamilies === 'IPv4') return familyOf(candidate) === 4;
  if (ipFamilies === 'IPv6') return familyOf(candidate) === 6;
  return true;
}

function throughService(
  { source, random, avoid }: UpstreamQuery,
  entry: ServiceEntry,
  port: number,
  mode: SelectionMode,
): UpstreamResult {
  const selection = selectEndpoint(entry, port, source, mode, random, avoid);
  if (selection.kind === 'none') return { kind: 'empty', entry, explain: selection.explain };
  const { workload, port: targetPort } = selection.choice;
  return { kind: 'found', upstream: { workload, entry, port: targetPort } };
}

function asGateway(
  result: UpstreamResult,
  reference: GatewayRef,
  addressTarget: IpAddress | undefined,
): GatewayResult {
  const name = showGateway(reference);
  switch (result.kind) {
    case 'found':
      return { kind: 'found', upstream: result.upstream, addressTarget };
    case 'unknown':
      return { kind: 'dangling', explain: `${name} is neither a known service nor a known workload` };
    case 'passthrough':
      return { kind: 'dangling', explain: `${name} is a passthrough service without an endpoint of its own` };
    case 'empty':
      return { kind: 'dangling', explain: `${name}: ${result.explain}` };
  }
}
