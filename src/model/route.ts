// Where does a captured outbound connection go? The pure decision of ztunnel.md §6.2: through a tunnel, through a tunnel
// in a tunnel, plainly, past the mesh, or nowhere, with the reason. Dialling and certificates belong to ztunnel/outbound.ts.

import type { Random } from '#base/clock.ts';
import {
  formatHostPort,
  formatSocketAddress,
  type OriginalDst,
  type Port,
  type UpstreamAddr,
} from '#net/host-port.ts';
import type { IpAddress } from '#net/ip.ts';
import { formatSpiffeId, parseSpiffeId, type SpiffeId } from './identity.ts';
import { weighted } from './load-balance.ts';
import type { Service } from './service.ts';
import type { ServiceEntry } from './service-index.ts';
import type { StoreView } from './store.ts';
import { findGateway, findUpstream, pickIp, type Upstream, type UpstreamQuery } from './upstream.ts';
import type { GatewayRef, Workload, WorkloadUid } from './workload.ts';

/** Where every mesh member takes HBONE. */
export const HBONE_PORT = 15_008 as Port;

export interface RouteRequest {
  readonly view: StoreView;
  /** The network this proxy is configured with; empty by default. */
  readonly network: string;
  /** The pod whose connection it is. */
  readonly source: Workload;
  /** The TCP peer as seen by the proxy; only tells a waypoint's own traffic from others'. */
  readonly downstreamIp: IpAddress;
  readonly originalDst: OriginalDst;
  readonly random: Random;
  /** Endpoints that failed this very connection; others are preferred. */
  readonly avoid?: ReadonlySet<WorkloadUid>;
}

export type RefuseReason =
  | 'no-healthy-upstream'
  | 'waypoint-unavailable'
  | 'no-address'
  | 'no-network-gateway'
  | 'network-gateway-unavailable'
  | 'network-gateway-needs-service'
  | 'no-subject-names';

export type Route =
  | {
      readonly kind: 'hbone';
      readonly via: 'workload' | 'service-waypoint' | 'workload-waypoint';
      readonly dial: UpstreamAddr;
      /** The `:authority` of the CONNECT request. */
      readonly authority: string;
      /** The peer must present one of these. */
      readonly expected: readonly SpiffeId[];
      /** Who is dialled: the destination itself or the waypoint. */
      readonly destination: Workload;
      /** Whom the application meant, when it addressed a service. */
      readonly service: Service | undefined;
    }
  | {
      /** The destination is on another network: a tunnel to its gateway, and in it one to the destination (§5.8). */
      readonly kind: 'double-hbone';
      readonly dial: UpstreamAddr;
      /** Of both tunnels: the service's name and the port that was asked for. */
      readonly authority: string;
      /** The gateway must present one of these. */
      readonly expected: readonly SpiffeId[];
      /** The end of the inner tunnel must present one of these: the names of its service, no workload's own. */
      readonly innerExpected: readonly SpiffeId[];
      /** The gateway. */
      readonly destination: Workload;
      readonly service: Service;
    }
  | {
      /** Whom to dial is known by name only; the decision goes on with one of its addresses. */
      readonly kind: 'resolve';
      readonly hostname: string;
      /** Addresses of its family are to be preferred. */
      readonly target: IpAddress;
      readonly destination: Workload;
      readonly service: Service | undefined;
      readonly withAddress: (ip: IpAddress) => Route;
    }
  | {
      readonly kind: 'tcp';
      readonly dial: UpstreamAddr;
      readonly destination: Workload;
      readonly service: Service | undefined;
    }
  | {
      readonly kind: 'passthrough';
      readonly reason: 'unknown-destination' | 'passthrough-service';
      readonly dial: UpstreamAddr;
      readonly service: Service | undefined;
    }
  | {
      readonly kind: 'refuse';
      readonly reason: RefuseReason;
      readonly explain: string;
      readonly service: Service | undefined;
      readonly destination: Workload | undefined;
    };

const NO_NAMES: readonly SpiffeId[] = [];

export function route(request: RouteRequest): Route {
  const { view, network, source, originalDst } = request;
  // A workload's address is never service-addressed, even if a VIP equals it.
  const addressed =
    view.workloadByIp(network, originalDst.ip) === undefined
      ? view.serviceByVip(network, originalDst.ip, source.namespace)
      : undefined;
  const service = addressed?.service;

  const serviceWaypoint = service === undefined ? undefined : waypointOf(service, request.random);
  if (serviceWaypoint !== undefined)
    return throughWaypoint(request, serviceWaypoint, 'service-waypoint', service, undefined);

  const found = findUpstream(request, source.network, originalDst.ip, originalDst.port);
  if (found.kind !== 'found') return withoutUpstream(request, addressed, found);
  const { upstream } = found;
  const target = upstream.entry?.service ?? service;

  if (upstream.workload.network !== source.network) return throughGateway(request, upstream, service);
  const ownWaypoint = upstream.workload.waypoint;
  if (service === undefined && ownWaypoint !== undefined && !isFromWaypoint(request, ownWaypoint))
    return throughWaypoint(request, ownWaypoint, 'workload-waypoint', target, upstream.workload);
  return direct(upstream, originalDst, target);
}

/** Per connection by weight; when no weighted one is usable, the plain one. */
function waypointOf(service: Service, random: Random): GatewayRef | undefined {
  if (service.weightedWaypoints.length === 0) return service.waypoint;
  const chosen = weighted(service.weightedWaypoints, ({ weight }) => weight, random);
  return chosen?.destination ?? service.waypoint;
}

function throughWaypoint(
  request: RouteRequest,
  reference: GatewayRef,
  via: 'service-waypoint' | 'workload-waypoint',
  service: Service | undefined,
  behind: Workload | undefined,
): Route {
  const { originalDst, source } = request;
  const result = findGateway(request, reference, 'waypoint');
  if (result.kind === 'dangling') {
    const explain = `unknown waypoint: ${result.explain}`;
    return { kind: 'refuse', reason: 'waypoint-unavailable', explain, service, destination: behind };
  }
  const { upstream, addressTarget } = result;
  // The waypoint of a single workload is dialled wherever it is, as the field does; it must prove its identity anyway.
  if (via === 'service-waypoint' && upstream.workload.network !== source.network)
    return throughGateway(request, upstream, service);
  return at(upstream, addressTarget ?? originalDst.ip, service, (dial) => ({
    kind: 'hbone',
    via,
    dial,
    authority: formatSocketAddress(originalDst),
    expected: identitiesOf(upstream),
    destination: upstream.workload,
    service,
  }));
}

/** To an endpoint, or the waypoint of a service, on another network. Only services are reached there, by their name. */
function throughGateway(request: RouteRequest, upstream: Upstream, service: Service | undefined): Route {
  const { originalDst } = request;
  const { workload, entry } = upstream;
  const refuse = (reason: RefuseReason, explain: string): Route => ({
    kind: 'refuse',
    reason,
    explain: `${workload.uid} is on network ${JSON.stringify(workload.network)}: ${explain}`,
    service,
    destination: workload,
  });
  if (workload.networkGateway === undefined)
    return refuse('no-network-gateway', 'it has no network gateway to be reached through');
  if (service === undefined)
    return refuse('network-gateway-needs-service', 'only services are reached there, not single addresses');
  const innerExpected = subjectNamesOf(entry);
  if (innerExpected.length === 0) {
    const name = entry?.key ?? workload.uid;
    return refuse('no-subject-names', `${name} has no subject names to recognise its workloads by`);
  }
  const result = findGateway(request, workload.networkGateway, 'standard');
  if (result.kind === 'dangling')
    return refuse('network-gateway-unavailable', `unknown network gateway: ${result.explain}`);
  const { upstream: gateway, addressTarget } = result;
  return at(gateway, addressTarget ?? originalDst.ip, service, (dial) => ({
    kind: 'double-hbone',
    dial,
    authority: formatHostPort(service.hostname, originalDst.port),
    expected: identitiesOf(gateway),
    innerExpected,
    destination: gateway.workload,
    service,
  }));
}

function direct(upstream: Upstream, originalDst: OriginalDst, service: Service | undefined): Route {
  const { workload } = upstream;
  return at(upstream, originalDst.ip, service, (target) => {
    // Decided by the destination alone; there is no way back from a tunnel to plaintext.
    if (workload.protocol === 'TCP') return { kind: 'tcp', dial: target, destination: workload, service };
    return {
      kind: 'hbone',
      via: 'workload',
      dial: { ip: target.ip, port: HBONE_PORT },
      authority: formatSocketAddress(target),
      expected: identitiesOf(upstream),
      destination: workload,
      service,
    };
  });
}

function withoutUpstream(
  { view, source, originalDst }: RouteRequest,
  addressed: ServiceEntry | undefined,
  found: Exclude<ReturnType<typeof findUpstream>, { kind: 'found' }>,
): Route {
  const dial: UpstreamAddr = { ip: originalDst.ip, port: originalDst.port };
  if (found.kind === 'passthrough') {
    const { service } = found.entry;
    return { kind: 'passthrough', reason: 'passthrough-service', dial, service };
  }
  if (found.kind === 'unknown' && addressed === undefined && view.wasInMesh(source.network, originalDst.ip))
    return {
      kind: 'refuse',
      reason: 'no-healthy-upstream',
      explain: `${formatSocketAddress(originalDst)} was in the mesh and has just left it: not dialled in plaintext`,
      service: undefined,
      destination: undefined,
    };
  if (found.kind === 'unknown' && addressed === undefined)
    return { kind: 'passthrough', reason: 'unknown-destination', dial, service: undefined };
  // Also when a workload owns the address besides: the field would then dial it plainly, mesh member or not.
  const entry = found.kind === 'empty' ? found.entry : addressed!;
  const why = found.kind === 'empty' ? found.explain : `the service is unknown in the source's network`;
  return {
    kind: 'refuse',
    reason: 'no-healthy-upstream',
    explain: `no healthy upstream: ${formatSocketAddress(originalDst)} (${entry.key}): ${why}`,
    service: entry.service,
    destination: undefined,
  };
}

/** Goes on with the address of a workload for a connection to `target`, which may have to be looked up first. */
function at(
  { workload, entry, port }: Upstream,
  target: IpAddress,
  service: Service | undefined,
  proceed: (dial: UpstreamAddr) => Route,
): Route {
  const withAddress = (ip: IpAddress): Route => proceed({ ip, port: port as Port });
  const ip = pickIp(workload, target, entry?.service.ipFamilies);
  if (ip !== undefined) return withAddress(ip);
  const { hostname } = workload;
  if (hostname !== '')
    return { kind: 'resolve', hostname, target, destination: workload, service, withAddress };
  const explain =
    workload.ips.length > 0
      ? `${workload.uid} has no address of a family that ${entry?.key ?? 'its service'} allows`
      : `${workload.uid} has neither an address nor a host name`;
  return { kind: 'refuse', reason: 'no-address', explain, service, destination: workload };
}

/** The service's subject names that are SPIFFE ids, then the workload's own identity. */
function identitiesOf({ workload, entry }: Upstream): readonly SpiffeId[] {
  return [...subjectNamesOf(entry), formatSpiffeId(workload)];
}

function subjectNamesOf(entry: ServiceEntry | undefined): readonly SpiffeId[] {
  const names = entry?.service.subjectAltNames ?? NO_NAMES;
  return names.length === 0
    ? NO_NAMES
    : names.filter((name): name is SpiffeId => parseSpiffeId(name) !== undefined);
}

/**
 * Is the connection the waypoint's own, on its way to the workload behind it? Then it must not go back to the waypoint
 * (ztunnel.md §6.7). Both the identity and the address must be the waypoint's.
 */
export function isFromWaypoint(
  request: UpstreamQuery & { readonly downstreamIp: IpAddress },
  reference: GatewayRef,
): boolean {
  const { source, downstreamIp } = request;
  const matches = (workload: Workload): boolean =>
    workload.serviceAccount === source.serviceAccount &&
    workload.namespace === source.namespace &&
    workload.trustDomain === source.trustDomain &&
    workload.ips.includes(downstreamIp);
  return gatewayWorkloads(request, reference).some(matches);
}

/** Every workload a reference may lead to. */
function gatewayWorkloads({ view, source }: UpstreamQuery, { destination }: GatewayRef): readonly Workload[] {
  let entry: ServiceEntry | undefined;
  let workload: Workload | undefined;
  if (destination.kind === 'address') {
    const { network, ip } = destination.address;
    entry = view.serviceByVip(network, ip, source.namespace);
    if (entry === undefined) workload = view.workloadByIp(network, ip);
  } else {
    const { namespace, hostname } = destination;
    entry = view.service(`${namespace}/${hostname}` as ServiceEntry['key']);
    if (entry === undefined) workload = view.workloadByHostname(namespace, hostname);
  }
  if (entry !== undefined) return [...entry.endpoints.values()];
  return workload === undefined ? [] : [workload];
}
