// A workload as the mesh sees it: one pod, or one endpoint outside Kubernetes (ztunnel.md §3.7, `istio.workload.Workload`).

import type { IpAddress } from '#net/ip.ts';

export type WorkloadUid = string & { readonly __brand: 'WorkloadUid' };
/** `namespace/hostname`. */
export type ServiceKey = string & { readonly __brand: 'ServiceKey' };

export interface NetworkAddress {
  readonly network: string;
  readonly ip: IpAddress;
}

/** A waypoint or network gateway, by address or by service host name. */
export interface GatewayRef {
  readonly destination:
    | { readonly kind: 'address'; readonly address: NetworkAddress }
    | { readonly kind: 'hostname'; readonly namespace: string; readonly hostname: string };
  readonly hbonePort: number;
}

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

/** Service port → target port; a target of 0 means "not mapped by the service". */
export type PortMap = ReadonlyMap<number, number>;

export interface Workload {
  readonly uid: WorkloadUid;
  readonly name: string;
  readonly namespace: string;
  readonly ips: readonly IpAddress[];
  readonly network: string;
  readonly protocol: 'TCP' | 'HBONE';
  readonly networkMode: 'Standard' | 'HostNetwork';
  readonly trustDomain: string;
  readonly serviceAccount: string;
  readonly waypoint: GatewayRef | undefined;
  readonly networkGateway: GatewayRef | undefined;
  readonly node: string;
  readonly hostname: string;
  readonly workloadName: string;
  /** Lower case: deployment, cronjob, pod, job. */
  readonly workloadType: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly clusterId: string;
  readonly nativeTunnel: boolean;
  readonly applicationTunnel:
    | { readonly protocol: 'NONE' | 'PROXY'; readonly port: number | undefined }
    | undefined;
  /** `namespace/name` of selector-scoped policies. */
  readonly authorizationPolicies: readonly string[];
  readonly status: 'Healthy' | 'Unhealthy';
  readonly locality: Locality;
  readonly capacity: number;
  readonly services: ReadonlyMap<ServiceKey, PortMap>;
}

export function serviceKey(namespace: string, hostname: string): ServiceKey {
  return `${namespace}/${hostname}` as ServiceKey;
}
