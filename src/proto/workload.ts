// `istio.workload.Address` messages ⇄ the model's workloads and services, by the rules of ztunnel.md §3.6
// (services: service.ts).
// A resource that breaks a rule is refused as a whole with a reason; the caller decides what becomes of the rest.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { MeshError } from '#base/errors.ts';
import type { Address } from '#model/address.ts';
import { DEFAULT_TRUST_DOMAIN } from '#model/identity.ts';
import type { Locality, PortMap, ServiceKey, Workload, WorkloadUid } from '#model/workload.ts';
import { ipToBytes } from '#net/ip.ts';
import { gatewayFrom, gatewayTo, ipFrom, optional, port16, portsFrom, portsTo, reject } from './fields.ts';
import * as wire from './gen/workload_pb.js';
import { serviceFrom, serviceTo } from './service.ts';
import { Sharing } from './sharing.ts';

export const ADDRESS_TYPE_URL = 'type.googleapis.com/istio.workload.Address';

const DEFAULT_SERVICE_ACCOUNT = 'default';
const DEFAULT_CLUSTER_ID = 'Kubernetes';

// Most workloads share these: one object for all of them.
const NO_LOCALITY: Locality = Object.freeze({ region: '', zone: '', subzone: '' });
const NO_SERVICES: ReadonlyMap<ServiceKey, PortMap> = new Map();

/**
 * What many have in common is taken from `sharing`, for a holder of many.
 * @throws MeshError `XDS_RESOURCE_REJECTED` whose message is the reason for the NACK.
 */
export function decodeAddress(bytes: Uint8Array, sharing: Sharing = new Sharing()): Address {
  let message: wire.Address;
  try {
    message = fromBinary(wire.AddressSchema, bytes, { readUnknownFields: false });
  } catch (error) {
    throw MeshError.from(error, 'XDS_RESOURCE_REJECTED', 'not an istio.workload.Address');
  }
  switch (message.type.case) {
    case 'workload':
      return { kind: 'workload', workload: workloadFrom(message.type.value, sharing) };
    case 'service':
      return { kind: 'service', service: serviceFrom(message.type.value) };
    default:
      return reject('the address holds neither a workload nor a service');
  }
}

/** Canonical: equal models give equal bytes (services sorted by key), so that a hash of them is a version. */
export function encodeAddress(address: Address): Uint8Array {
  const message =
    address.kind === 'workload'
      ? create(wire.AddressSchema, { type: { case: 'workload', value: workloadTo(address.workload) } })
      : create(wire.AddressSchema, { type: { case: 'service', value: serviceTo(address.service) } });
  return toBinary(wire.AddressSchema, message);
}

function workloadFrom(message: wire.Workload, sharing: Sharing): Workload {
  return {
    uid: message.uid as WorkloadUid,
    name: message.name,
    namespace: sharing.text(message.namespace),
    ips: message.addresses.map(ipFrom),
    network: sharing.text(message.network),
    protocol: protocolFrom(message.tunnelProtocol),
    networkMode: networkModeFrom(message.networkMode),
    trustDomain: sharing.text(message.trustDomain) || DEFAULT_TRUST_DOMAIN,
    serviceAccount: sharing.text(message.serviceAccount) || DEFAULT_SERVICE_ACCOUNT,
    waypoint: gatewayFrom(message.waypoint, 'waypoint'),
    networkGateway: gatewayFrom(message.networkGateway, 'network gateway'),
    node: sharing.text(message.node),
    hostname: message.hostname,
    workloadName: sharing.text(message.workloadName),
    workloadType: TYPE_NAMES[message.workloadType] ?? 'deployment',
    canonicalName: sharing.text(message.canonicalName),
    canonicalRevision: sharing.text(message.canonicalRevision),
    clusterId: sharing.text(message.clusterId) || DEFAULT_CLUSTER_ID,
    nativeTunnel: message.nativeTunnel,
    applicationTunnel: tunnelFrom(message.applicationTunnel),
    authorizationPolicies: sharing.texts(message.authorizationPolicies),
    status: statusFrom(message.status),
    locality: localityFrom(message.locality, sharing),
    capacity: message.capacity ?? 1,
    services: servicesFrom(message.services, sharing),
  };
}

function workloadTo(workload: Workload): wire.Workload {
  const keys = [...workload.services.keys()].sort();
  const { region, zone, subzone } = workload.locality;
  return create(wire.WorkloadSchema, {
    uid: workload.uid,
    name: workload.name,
    namespace: workload.namespace,
    addresses: workload.ips.map(ipToBytes),
    network: workload.network,
    tunnelProtocol: workload.protocol === 'HBONE' ? wire.TunnelProtocol.HBONE : wire.TunnelProtocol.NONE,
    networkMode:
      workload.networkMode === 'HostNetwork' ? wire.NetworkMode.HOST_NETWORK : wire.NetworkMode.STANDARD,
    trustDomain: workload.trustDomain === DEFAULT_TRUST_DOMAIN ? '' : workload.trustDomain,
    serviceAccount: workload.serviceAccount,
    ...optional('waypoint', workload.waypoint, gatewayTo),
    ...optional('networkGateway', workload.networkGateway, gatewayTo),
    node: workload.node,
    hostname: workload.hostname,
    workloadName: workload.workloadName,
    workloadType: WORKLOAD_TYPES[workload.workloadType] ?? wire.WorkloadType.DEPLOYMENT,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    clusterId: workload.clusterId,
    nativeTunnel: workload.nativeTunnel,
    ...optional('applicationTunnel', workload.applicationTunnel, (tunnel) =>
      create(wire.ApplicationTunnelSchema, {
        protocol: wire.ApplicationTunnel_Protocol[tunnel.protocol],
        port: tunnel.port ?? 0,
      }),
    ),
    authorizationPolicies: [...workload.authorizationPolicies],
    status: workload.status === 'Unhealthy' ? wire.WorkloadStatus.UNHEALTHY : wire.WorkloadStatus.HEALTHY,
    ...(region === '' && zone === '' && subzone === ''
      ? {}
      : { locality: create(wire.LocalitySchema, workload.locality) }),
    ...(workload.capacity === 1 ? {} : { capacity: workload.capacity }),
    services: Object.fromEntries(
      keys.map((key) => [key, create(wire.PortListSchema, { ports: portsTo(workload.services.get(key)!) })]),
    ),
  });
}

function servicesFrom(
  services: Readonly<Record<string, wire.PortList>>,
  sharing: Sharing,
): Workload['services'] {
  const entries = Object.entries(services);
  if (entries.length === 0) return NO_SERVICES;
  return sharing.services(
    entries.map(([key, list]) => {
      if (!key.includes('/')) reject(`service key ${JSON.stringify(key)} is not namespace/hostname`);
      return [key as ServiceKey, portsFrom(list.ports)];
    }),
  );
}

function protocolFrom(value: wire.TunnelProtocol): Workload['protocol'] {
  if (value === wire.TunnelProtocol.NONE) return 'TCP';
  if (value === wire.TunnelProtocol.HBONE) return 'HBONE';
  return reject(`tunnel protocol ${value} is not supported`);
}

function networkModeFrom(value: wire.NetworkMode): Workload['networkMode'] {
  if (value === wire.NetworkMode.STANDARD) return 'Standard';
  if (value === wire.NetworkMode.HOST_NETWORK) return 'HostNetwork';
  return reject(`network mode ${value} is unknown`);
}

function statusFrom(value: wire.WorkloadStatus): Workload['status'] {
  if (value === wire.WorkloadStatus.HEALTHY) return 'Healthy';
  if (value === wire.WorkloadStatus.UNHEALTHY) return 'Unhealthy';
  return reject(`workload status ${value} is unknown`);
}

function tunnelFrom(message: wire.ApplicationTunnel | undefined): Workload['applicationTunnel'] {
  if (message === undefined) return undefined;
  const port = port16(message.port) || undefined;
  if (message.protocol === wire.ApplicationTunnel_Protocol.NONE) return { protocol: 'NONE', port };
  if (message.protocol === wire.ApplicationTunnel_Protocol.PROXY) return { protocol: 'PROXY', port };
  return reject(`application tunnel protocol ${message.protocol} is unknown`);
}

function localityFrom(message: wire.Locality | undefined, sharing: Sharing): Locality {
  if (message === undefined) return NO_LOCALITY;
  const { region, zone, subzone } = message;
  return sharing.locality(region, zone, subzone);
}

/** Lower case as the field shows them; by number on the wire. */
const TYPE_NAMES: readonly string[] = ['deployment', 'cronjob', 'pod', 'job'];
const WORKLOAD_TYPES: Readonly<Record<string, wire.WorkloadType>> = {
  deployment: wire.WorkloadType.DEPLOYMENT,
  cronjob: wire.WorkloadType.CRONJOB,
  pod: wire.WorkloadType.POD,
  job: wire.WorkloadType.JOB,
};
