// EndpointSlice endpoints that are no pods → Workloads (control-plane.md §2.7): how a service reaches a hand-written
// address, above all `kubernetes`, the API server itself.

import type { EndpointSlice, Service as KubeService, Pod } from '#k8s/objects.ts';
import type { PortMap, Workload, WorkloadUid } from '#model/workload.ts';
import { serviceKey } from '#model/workload.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';
import { LABEL, labelsOf } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';
import { serviceHostname } from './service.ts';

export function workloadsOfSlice(
  slice: EndpointSlice,
  service: KubeService | undefined,
  mesh: MeshFacts,
): Workload[] {
  if (slice.addressType === 'FQDN' || service === undefined || service.spec.type === 'ExternalName')
    return [];
  const namespace = slice.metadata.namespace ?? '';
  const { name } = slice.metadata;
  const ports = portsOf(slice, service);
  const workloads: Workload[] = [];
  for (const endpoint of slice.endpoints ?? []) {
    if (endpoint.targetRef?.kind === 'Pod') continue;
    const ips = endpoint.addresses.map(parseIp);
    const first = ips[0];
    if (first === undefined || !ips.every((ip): ip is IpAddress => ip !== undefined)) continue;
    workloads.push({
      uid: `${mesh.clusterId}/discovery.k8s.io/EndpointSlice/${namespace}/${name}/${first}` as WorkloadUid,
      name,
      namespace,
      ips,
      network: mesh.network,
      protocol: 'TCP',
      // The address may belong to a node or to several slices: it must not be claimed for this workload alone.
      networkMode: 'HostNetwork',
      trustDomain: mesh.trustDomain,
      serviceAccount: '',
      waypoint: undefined,
      networkGateway: undefined,
      node: '',
      hostname: '',
      workloadName: '',
      workloadType: 'deployment',
      canonicalName: '',
      canonicalRevision: '',
      clusterId: mesh.clusterId,
      nativeTunnel: false,
      applicationTunnel: undefined,
      authorizationPolicies: [],
      status: endpoint.conditions?.ready === false ? 'Unhealthy' : 'Healthy',
      locality: { region: '', zone: '', subzone: '' },
      capacity: 1,
      services: new Map([[serviceKey(namespace, serviceHostname(service, mesh)), ports]]),
    });
  }
  return workloads;
}

/** Slice ports and service ports are joined by name; an unnamed port has the empty name. */
function portsOf(slice: EndpointSlice, service: KubeService): PortMap {
  const numbers = new Map<string, number>();
  for (const port of slice.ports ?? [])
    if ((port.protocol ?? 'TCP') === 'TCP' && port.port !== undefined)
      numbers.set(port.name ?? '', port.port);
  const ports = new Map<number, number>();
  for (const port of service.spec.ports ?? []) {
    if ((port.protocol ?? 'TCP') !== 'TCP') continue;
    const target = numbers.get(port.name ?? '');
    if (target !== undefined) ports.set(port.port, target);
  }
  return ports;
}

/** `namespace/name` of the Service that the slice belongs to. */
export function serviceOfSlice(slice: EndpointSlice): string | undefined {
  const name = labelsOf(slice)[LABEL.sliceService];
  return name === undefined ? undefined : `${slice.metadata.namespace ?? ''}/${name}`;
}

/** `namespace/name` of the pods among its endpoints. */
export function podsOfSlice(slice: EndpointSlice): string[] {
  return (slice.endpoints ?? []).flatMap(({ targetRef }) =>
    targetRef?.kind === 'Pod' ? [`${targetRef.namespace}/${targetRef.name}`] : [],
  );
}

/** The very pod, not a later one of the same name. */
export function sliceNamesPod(slice: EndpointSlice, pod: Pod): boolean {
  return (slice.endpoints ?? []).some(
    ({ targetRef }) =>
      targetRef?.kind === 'Pod' &&
      targetRef.namespace === pod.metadata.namespace &&
      targetRef.name === pod.metadata.name &&
      targetRef.uid === pod.metadata.uid,
  );
}
