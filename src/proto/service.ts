// `istio.workload.Service` messages ⇄ the model's services (ztunnel.md §3.6).

import { create } from '@bufbuild/protobuf';
import type { LoadBalancing, LoadBalancingScope, Service } from '#model/service.ts';
import type { NetworkAddress } from '#model/workload.ts';
import { cidrOf } from '#net/cidr.ts';
import { familyOf, ipToBytes } from '#net/ip.ts';
import {
  gatewayFrom,
  gatewayTo,
  ipFrom,
  networkAddressTo,
  optional,
  portsFrom,
  portsTo,
  reject,
} from './fields.ts';
import * as wire from './gen/workload_pb.js';

export function serviceFrom(message: wire.Service): Service {
  const vips: NetworkAddress[] = [];
  const cidrVips: Service['cidrVips'][number][] = [];
  for (const { network, address, length } of message.addresses) {
    const ip = ipFrom(address);
    const width = familyOf(ip) === 4 ? 32 : 128;
    if (length === undefined || length === width) vips.push({ network, ip });
    else {
      const cidr = cidrOf(ip, length) ?? reject(`prefix length ${length} does not fit the address ${ip}`);
      cidrVips.push({ network, cidr });
    }
  }
  return {
    name: message.name,
    namespace: message.namespace,
    hostname: message.hostname,
    vips,
    cidrVips,
    ports: portsFrom(message.ports),
    subjectAltNames: message.subjectAltNames,
    waypoint: gatewayFrom(message.waypoint, 'waypoint'),
    weightedWaypoints: message.weightedWaypoints.map(({ destination, weight }) => ({
      destination:
        gatewayFrom(destination, 'weighted waypoint') ?? reject('a weighted waypoint has no destination'),
      weight,
    })),
    loadBalancer: loadBalancerFrom(message.loadBalancing),
    ipFamilies: ipFamiliesFrom(message.ipFamilies),
    canonical: message.canonical,
    visibility: message.visibility === wire.Service_Visibility.NAMESPACE ? 'Namespace' : 'Public',
  };
}

export function serviceTo(service: Service): wire.Service {
  const addresses = [
    ...service.vips.map(networkAddressTo),
    ...service.cidrVips.map(({ network, cidr }) =>
      create(wire.NetworkAddressSchema, {
        network,
        address: ipToBytes(cidr.address),
        length: cidr.prefixLength,
      }),
    ),
  ];
  return create(wire.ServiceSchema, {
    name: service.name,
    namespace: service.namespace,
    hostname: service.hostname,
    addresses,
    ports: portsTo(service.ports, (port) => wire.AppProtocol[service.appProtocols?.get(port) ?? 'UNKNOWN']),
    subjectAltNames: [...service.subjectAltNames],
    ...optional('waypoint', service.waypoint, gatewayTo),
    weightedWaypoints: service.weightedWaypoints.map(({ destination, weight }) =>
      create(wire.WeightedWaypointSchema, { destination: gatewayTo(destination), weight }),
    ),
    ...optional('loadBalancing', service.loadBalancer, loadBalancerTo),
    ipFamilies:
      service.ipFamilies === undefined ? wire.IPFamilies.AUTOMATIC : IP_FAMILIES[service.ipFamilies],
    canonical: service.canonical,
    ingressUseWaypoint: service.ingressUseWaypoint === true,
    visibility:
      service.visibility === 'Namespace' ? wire.Service_Visibility.NAMESPACE : wire.Service_Visibility.PUBLIC,
  });
}

const IP_FAMILIES = {
  IPv4: wire.IPFamilies.IPV4_ONLY,
  IPv6: wire.IPFamilies.IPV6_ONLY,
  Dual: wire.IPFamilies.DUAL,
} as const;

function ipFamiliesFrom(value: wire.IPFamilies): Service['ipFamilies'] {
  switch (value) {
    case wire.IPFamilies.AUTOMATIC:
      return undefined;
    case wire.IPFamilies.IPV4_ONLY:
      return 'IPv4';
    case wire.IPFamilies.IPV6_ONLY:
      return 'IPv6';
    case wire.IPFamilies.DUAL:
      return 'Dual';
    default:
      return reject(`IP families ${value as number} is unknown`);
  }
}

const SCOPES: readonly (readonly [LoadBalancingScope, wire.LoadBalancing_Scope])[] = [
  ['Region', wire.LoadBalancing_Scope.REGION],
  ['Zone', wire.LoadBalancing_Scope.ZONE],
  ['Subzone', wire.LoadBalancing_Scope.SUBZONE],
  ['Node', wire.LoadBalancing_Scope.NODE],
  ['Cluster', wire.LoadBalancing_Scope.CLUSTER],
  ['Network', wire.LoadBalancing_Scope.NETWORK],
];
const MODES: readonly (readonly [LoadBalancing['mode'], wire.LoadBalancing_Mode])[] = [
  ['Standard', wire.LoadBalancing_Mode.UNSPECIFIED_MODE],
  ['Strict', wire.LoadBalancing_Mode.STRICT],
  ['Failover', wire.LoadBalancing_Mode.FAILOVER],
  ['Passthrough', wire.LoadBalancing_Mode.PASSTHROUGH],
];
const HEALTH_POLICIES: readonly (readonly [
  LoadBalancing['healthPolicy'],
  wire.LoadBalancing_HealthPolicy,
])[] = [
  ['OnlyHealthy', wire.LoadBalancing_HealthPolicy.ONLY_HEALTHY],
  ['AllowAll', wire.LoadBalancing_HealthPolicy.ALLOW_ALL],
];

function nameOf<N>(table: readonly (readonly [N, number])[], value: number, what: string): N {
  const row = table.find(([, number]) => number === value);
  return row === undefined ? reject(`${what} ${value} is unknown`) : row[0];
}

function numberOf<N, V>(table: readonly (readonly [N, V])[], name: N): V {
  return table.find(([candidate]) => candidate === name)![1];
}

function loadBalancerFrom(message: wire.LoadBalancing | undefined): LoadBalancing | undefined {
  if (message === undefined) return undefined;
  return {
    routingPreferences: message.routingPreference.map((scope) =>
      nameOf(SCOPES, scope, 'load balancing scope'),
    ),
    mode: nameOf(MODES, message.mode, 'load balancing mode'),
    healthPolicy: nameOf(HEALTH_POLICIES, message.healthPolicy, 'health policy'),
  };
}

function loadBalancerTo(loadBalancer: LoadBalancing): wire.LoadBalancing {
  return create(wire.LoadBalancingSchema, {
    routingPreference: loadBalancer.routingPreferences.map((scope) => numberOf(SCOPES, scope)),
    mode: numberOf(MODES, loadBalancer.mode),
    healthPolicy: numberOf(HEALTH_POLICIES, loadBalancer.healthPolicy),
  });
}
