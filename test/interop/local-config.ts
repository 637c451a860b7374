// Our model as the static state file of the field (ztunnel.md §1.6), for a peer that runs alone.

import type { Address } from '#model/address.ts';
import type { Service } from '#model/service.ts';
import type { GatewayRef, PortMap, Workload } from '#model/workload.ts';
import { formatCidr } from '#net/cidr.ts';

export function localConfig(addresses: readonly Address[]): string {
  const workloads = addresses.flatMap((one) => (one.kind === 'workload' ? [workload(one.workload)] : []));
  const services = addresses.flatMap((one) => (one.kind === 'service' ? [service(one.service)] : []));
  // Ports are numbers there, also as keys.
  return `${JSON.stringify({ workloads, services }, undefined, 1).replaceAll(/"(\d+)":/g, '$1:')}\n`;
}

function workload(of: Workload): object {
  return {
    uid: of.uid,
    name: of.name,
    namespace: of.namespace,
    workloadIps: of.ips,
    network: of.network,
    protocol: of.protocol,
    networkMode: of.networkMode,
    trustDomain: of.trustDomain,
    serviceAccount: of.serviceAccount,
    node: of.node,
    hostname: of.hostname,
    workloadName: of.workloadName,
    workloadType: of.workloadType,
    canonicalName: of.canonicalName,
    canonicalRevision: of.canonicalRevision,
    clusterId: of.clusterId,
    status: of.status,
    locality: of.locality,
    capacity: of.capacity,
    services: Object.fromEntries([...of.services].map(([key, map]) => [key, ports(map)])),
    ...(of.waypoint === undefined ? {} : { waypoint: gateway(of.waypoint) }),
    ...(of.networkGateway === undefined ? {} : { networkGateway: gateway(of.networkGateway) }),
    ...(of.applicationTunnel === undefined
      ? {}
      : {
          applicationTunnel: {
            protocol: of.applicationTunnel.protocol,
            port: of.applicationTunnel.port ?? null,
          },
        }),
  };
}

function service(of: Service): object {
  return {
    name: of.name,
    namespace: of.namespace,
    hostname: of.hostname,
    vips: of.vips.map(({ network, ip }) => `${network}/${ip}`),
    cidrVips: of.cidrVips.map(({ network, cidr }) => ({ network, cidr: formatCidr(cidr) })),
    ports: ports(of.ports),
    subjectAltNames: of.subjectAltNames,
    canonical: of.canonical,
    visibility: of.visibility,
    ...(of.waypoint === undefined ? {} : { waypoint: gateway(of.waypoint) }),
    ...(of.weightedWaypoints.length === 0
      ? {}
      : {
          weightedWaypoints: of.weightedWaypoints.map(({ destination, weight }) => ({
            destination: gateway(destination),
            weight,
          })),
        }),
    ...(of.loadBalancer === undefined ? {} : { loadBalancer: of.loadBalancer }),
    ...(of.ipFamilies === undefined ? {} : { ipFamilies: of.ipFamilies }),
  };
}

function ports(map: PortMap): object {
  return Object.fromEntries(map);
}

function gateway({ destination, hbonePort }: GatewayRef): object {
  return {
    destination:
      destination.kind === 'address'
        ? `${destination.address.network}/${destination.address.ip}`
        : `${destination.namespace}/${destination.hostname}`,
    hboneMtlsPort: hbonePort,
  };
}
