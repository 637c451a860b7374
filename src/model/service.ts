// A service as the mesh sees it (ztunnel.md §3.7, `istio.workload.Service`).

import type { Cidr } from '#net/cidr.ts';
import type { GatewayRef, NetworkAddress, PortMap } from './workload.ts';

export type LoadBalancingScope = 'Region' | 'Zone' | 'Subzone' | 'Node' | 'Cluster' | 'Network';

export interface LoadBalancing {
  readonly routingPreferences: readonly LoadBalancingScope[];
  readonly mode: 'Standard' | 'Strict' | 'Failover' | 'Passthrough';
  readonly healthPolicy: 'OnlyHealthy' | 'AllowAll';
}

/** What a port carries at layer 7. */
export type AppProtocol = 'UNKNOWN' | 'HTTP11' | 'HTTP2' | 'GRPC' | 'TCP' | 'TLS';

export interface Service {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips: readonly NetworkAddress[];
  readonly cidrVips: readonly { readonly network: string; readonly cidr: Cidr }[];
  readonly ports: PortMap;
  /** By service port. Published for readers at layer 7; node proxies do not keep it. */
  readonly appProtocols?: ReadonlyMap<number, AppProtocol>;
  readonly subjectAltNames: readonly string[];
  readonly waypoint: GatewayRef | undefined;
  readonly weightedWaypoints: readonly { readonly destination: GatewayRef; readonly weight: number }[];
  /** Gateways send to the waypoint, too. Published only: node proxies take waypoints anyway. */
  readonly ingressUseWaypoint?: boolean;
  readonly loadBalancer: LoadBalancing | undefined;
  readonly ipFamilies: 'Dual' | 'IPv4' | 'IPv6' | undefined;
  readonly canonical: boolean;
  readonly visibility: 'Public' | 'Namespace';
}
