// EndpointSlice endpoints that are no pods → Workloads (control-plane.md §2.7): how a service reaches a hand-written
// address, above all `kubernetes`, the API server itself.

import type { EndpointSlice, Pod } from '#k8s/objects.ts';
import type { PortMap, Workload, WorkloadUid } from '#model/workload.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';
import { LABEL, labelsOf } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';
import { recordKey, type ServiceRecord } from './service-record.ts';
import { plainWorkload } from './workload.ts';

export function workloadsOfSlice(
  slice: EndpointSlice,
  record: ServiceRecord | undefined,
  mesh: MeshFacts,
): Workload[] {
  if (slice.addressType === 'FQDN' || record === undefined) return [];
  const namespace = slice.metadata.namespace ?? '';
  const { name } = slice.metadata;
  const services = new Map([[recordKey(record), portsOf(slice, record)]]);
  const workloads = new Map<string, Workload>();
  for (const endpoint of slice.endpoints ?? []) {
    if (endpoint.targetRef?.kind === 'Pod') continue;
    const ips = endpoint.addresses.map(parseIp);
    const first = ips[0];
    if (first === undefined || !ips.every((ip): ip is IpAddress => ip !== undefined)) continue;
    const uid =
      `${mesh.clusterId}/discovery.k8s.io/EndpointSlice/${namespace}/${name}/${endpoint.addresses[0]}` as WorkloadUid;
    // The name is the address: of two endpoints with one address the first stands.
    if (workloads.has(uid)) continue;
    workloads.set(uid, {
      ...plainWorkload(mesh),
      uid,
      name,
      namespace,
      ips,
      // The address may belong to a node or to several slices: it must not be claimed for this workload alone.
      networkMode: 'HostNetwork',
      status: endpoint.conditions?.ready === false ? 'Unhealthy' : 'Healthy',
      services,
    });
  }
  return [...workloads.values()];
}

/** Slice ports and service ports are joined by name; an unnamed port has the empty name. */
function portsOf(slice: EndpointSlice, record: ServiceRecord): PortMap {
  const numbers = new Map<string, number>();
  for (const port of slice.ports ?? [])
    if ((port.protocol ?? 'TCP') === 'TCP' && port.port !== undefined)
      numbers.set(port.name ?? '', port.port);
  const ports = new Map<number, number>();
  for (const { port, name } of record.ports) {
    const target = numbers.get(name);
    if (target !== undefined) ports.set(port, target);
  }
  return ports;
}

/** The Service that the slice belongs to. */
export function serviceOfSlice(slice: EndpointSlice): { namespace: string; name: string } | undefined {
  const name = labelsOf(slice)[LABEL.sliceService];
  return name === undefined ? undefined : { namespace: slice.metadata.namespace ?? '', name };
}

/** `namespace/name` of the pods among its endpoints. */
export function podsOfSlice(slice: EndpointSlice | undefined): string[] {
  if (slice === undefined || slice.addressType === 'FQDN') return [];
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
