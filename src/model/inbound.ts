// Is a CONNECT request meant for this pod, and for which port of it? The pure answer of ztunnel.md §7.2, §7.3 and the
// guess of §7.7 as to which service was meant. Policy comes afterwards (authorize.ts).

import {
  formatHostPort,
  type HostPort,
  type Port,
  parseHostPort,
  type SocketAddress,
} from '#net/host-port.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';
import type { ServiceEntry } from './service-index.ts';
import type { StoreView } from './store.ts';
import { type GatewayRef, serviceKey, type Workload } from './workload.ts';

export interface InboundRequest {
  readonly view: StoreView;
  /** The network this proxy is configured with; empty by default. */
  readonly network: string;
  /** The pod whose listener took the connection. */
  readonly local: Workload;
  /** What the tunnel's TCP connection was addressed to: the pod. */
  readonly connectionIp: IpAddress;
  /** `:authority` of the request. */
  readonly authority: string;
  /** Ports of the proxy itself; reaching them would be a loop. */
  readonly illegalPorts: ReadonlySet<number>;
}

export type InboundRefusal =
  | 'authority-malformed'
  | 'ip-mismatch'
  | 'service-unknown'
  | 'port-unknown'
  | 'illegal-port'
  | 'no-vip';

export type InboundDecision =
  | {
      readonly kind: 'target';
      /** Always the connection's own address, whatever the authority says. */
      readonly target: SocketAddress;
      readonly authority: HostPort;
      /** The service of a host-name authority. */
      readonly service: ServiceEntry | undefined;
      /** Destination of the PROXY header to write before the bytes. */
      readonly proxyDestination: SocketAddress | undefined;
    }
  | {
      readonly kind: 'refuse';
      readonly status: 400 | 503;
      readonly reason: InboundRefusal;
      readonly explain: string;
    };

export function validateInbound(request: InboundRequest): InboundDecision {
  const { view, local, connectionIp, illegalPorts } = request;
  const authority = parseHostPort(request.authority);
  if (authority === undefined) {
    return refuse(
      400,
      'authority-malformed',
      `${JSON.stringify(request.authority)} is not address:port or host:port`,
    );
  }
  let port: number;
  let service: ServiceEntry | undefined;
  if (authority.kind === 'ip') {
    if (!meantForUs(request, authority.ip)) {
      const explain = `ip mismatch: the request names ${authority.ip}, the connection came to ${connectionIp}`;
      return refuse(400, 'ip-mismatch', explain);
    }
    port = authority.port;
  } else {
    service = view.serviceByHostname(authority.host, local.namespace);
    if (service === undefined) {
      const explain = `no service ${JSON.stringify(authority.host)} is visible to namespace ${local.namespace}`;
      return refuse(503, 'service-unknown', explain);
    }
    const mapped =
      local.services.get(service.key)?.get(authority.port) ?? service.service.ports.get(authority.port);
    if (mapped === undefined || mapped === 0) {
      return refuse(503, 'port-unknown', `${service.key} has no target for port ${authority.port}`);
    }
    port = mapped;
  }
  if (illegalPorts.has(port)) return refuse(503, 'illegal-port', `port ${port} belongs to the proxy itself`);
  const target: SocketAddress = { ip: connectionIp, port: port as Port };
  return throughTunnel(request, { kind: 'target', target, authority, service, proxyDestination: undefined });
}

/** An application tunnel has its own port and may want to know the original destination. */
function throughTunnel(
  { local, network }: InboundRequest,
  decision: Extract<InboundDecision, { kind: 'target' }>,
): InboundDecision {
  const tunnel = local.applicationTunnel;
  if (tunnel === undefined) return decision;
  const { authority, service, target } = decision;
  const tunnelled = tunnel.port === undefined ? target : { ip: target.ip, port: tunnel.port as Port };
  if (tunnel.protocol !== 'PROXY') return { ...decision, target: tunnelled };
  const ip = authority.kind === 'ip' ? authority.ip : vipOf(service!, network);
  if (ip === undefined) {
    const name = formatHostPort(authority.kind === 'host' ? authority.host : authority.ip, authority.port);
    return refuse(503, 'no-vip', `${name} has no address to tell the application through its PROXY header`);
  }
  return { ...decision, target: tunnelled, proxyDestination: { ip, port: authority.port } };
}

function refuse(
  status: 400 | 503,
  reason: InboundRefusal,
  explain: string,
): Extract<InboundDecision, { kind: 'refuse' }> {
  return { kind: 'refuse', status, reason, explain };
}

/** Own network first, then IPv4. */
function vipOf({ service }: ServiceEntry, network: string): IpAddress | undefined {
  const rank = (vip: { network: string; ip: IpAddress }): number =>
    (vip.network === network ? 2 : 0) + (familyOf(vip.ip) === 4 ? 1 : 0);
  let best = service.vips[0];
  for (const vip of service.vips) if (best === undefined || rank(vip) > rank(best)) best = vip;
  return best?.ip;
}

function meantForUs(request: InboundRequest, ip: IpAddress): boolean {
  const { view, network, local, connectionIp } = request;
  if (ip === connectionIp || local.applicationTunnel !== undefined) return true;
  const workload = view.workloadByIp(network, ip);
  if (workload !== undefined) return workload.waypoint !== undefined && leadsHere(request, workload.waypoint);
  const service = view.serviceByVip(network, ip, local.namespace)?.service;
  if (service === undefined) return false;
  // One of several that share the service's connections by weight is its waypoint too.
  const waypoints = [service.waypoint, ...service.weightedWaypoints.map(({ destination }) => destination)];
  return waypoints.some((waypoint) => waypoint !== undefined && leadsHere(request, waypoint));
}

/** Am I that waypoint? By membership of its service, or by owning the address the connection came to. */
function leadsHere({ view, local, connectionIp }: InboundRequest, { destination }: GatewayRef): boolean {
  if (destination.kind === 'hostname') {
    const entry = view.service(serviceKey(destination.namespace, destination.hostname));
    if (entry !== undefined) return entry.endpoints.has(local.uid);
    const workload = view.workloadByHostname(destination.namespace, destination.hostname);
    return workload?.ips.includes(connectionIp) === true;
  }
  const { network, ip } = destination.address;
  const entry = view.serviceByVip(network, ip, local.namespace);
  if (entry !== undefined) return entry.endpoints.has(local.uid);
  return view.workloadByIp(network, ip)?.ips.includes(connectionIp) === true;
}

/**
 * For labels only: the service whose name the client forwarded if the pod belongs to it, else the first of the pod's
 * services that leads to the port (ztunnel.md §7.7).
 */
export function guessService(
  view: StoreView,
  local: Workload,
  targetPort: number,
  forwardedHost: string | undefined,
): ServiceEntry | undefined {
  let byPort: ServiceEntry | undefined;
  for (const [key, mapping] of local.services) {
    const entry = view.service(key);
    if (entry === undefined) continue;
    if (entry.service.hostname === forwardedHost) return entry;
    if (byPort !== undefined) continue;
    for (const [servicePort, serviceTarget] of entry.service.ports) {
      const target = mapping.get(servicePort) || serviceTarget;
      if (target === targetPort) byPort = entry;
    }
  }
  return byPort;
}
