// Endpoints outside Kubernetes → Workloads: WorkloadEntries and the endpoints of ServiceEntries
// (control-plane.md §2.5, §2.6). Pure.

import type { EndpointSpec, ServiceEntry, WorkloadEntry } from '#k8s/mesh-objects.ts';
import type { Locality, Workload, WorkloadUid } from '#model/workload.ts';
import { parseIp } from '#net/ip.ts';
import { ANNOTATION, annotationsOf, LABEL, type Labels, labelsOf } from './labels.ts';
import { servicesOfEndpoint } from './membership.ts';
import type { MeshFacts } from './mesh-facts.ts';
import type { Surroundings } from './pod.ts';
import { resolutionOf } from './service-entry.ts';
import { canonicalNames, plainWorkload, tunnelOf } from './workload.ts';

/** Labels may stand in two places; those of the object go first. */
export function labelsOfEntry(object: WorkloadEntry): Labels {
  const inner = object.spec?.labels;
  return inner === undefined ? labelsOf(object) : { ...inner, ...labelsOf(object) };
}

export function workloadOfEntry(object: WorkloadEntry, mesh: MeshFacts, around: Surroundings): Workload {
  const { name } = object.metadata;
  const namespace = object.metadata.namespace ?? '';
  const labels = labelsOfEntry(object);
  const annotations = annotationsOf(object);
  const workloadName = annotations[ANNOTATION.autoRegistrationGroup] ?? labels[LABEL.workloadName] ?? name;
  return {
    ...workloadOfEndpoint(object.spec ?? {}, mesh, around),
    uid: `${mesh.clusterId}/networking.istio.io/WorkloadEntry/${namespace}/${name}` as WorkloadUid,
    name,
    namespace,
    workloadName,
    ...canonicalNames(labels, workloadName),
    ...tunnelOf(labels, annotations),
  };
}

/** One endpoint of a ServiceEntry, as it stands in the entry or as its host implies it. */
export function workloadOfServiceEntry(
  object: ServiceEntry,
  endpoint: EndpointSpec,
  mesh: MeshFacts,
  around: Surroundings,
): Workload {
  const { name } = object.metadata;
  const namespace = object.metadata.namespace ?? '';
  const labels = labelsOf(object);
  return {
    ...workloadOfEndpoint(endpoint, mesh, around),
    uid: `${mesh.clusterId}/networking.istio.io/ServiceEntry/${namespace}/${name}/${endpoint.address ?? ''}` as WorkloadUid,
    name,
    namespace,
    workloadName: name,
    ...canonicalNames(labels, name),
    ...tunnelOf(labels, annotationsOf(object)),
  };
}

/** Names that are looked up need no endpoints: each host stands for itself. */
export function hostsAreEndpoints(object: ServiceEntry): boolean {
  const { endpoints = [], workloadSelector } = object.spec ?? {};
  const resolution = resolutionOf(object);
  return (
    endpoints.length === 0 &&
    workloadSelector === undefined &&
    (resolution === 'DNS' || resolution === 'DNS_ROUND_ROBIN' || resolution === 'DYNAMIC_DNS')
  );
}

function workloadOfEndpoint(
  endpoint: EndpointSpec,
  mesh: MeshFacts,
  around: Surroundings,
): Omit<Workload, 'uid' | 'name' | 'namespace'> {
  const address = endpoint.address ?? '';
  const ip = parseIp(address);
  return {
    ...plainWorkload(mesh),
    ips: ip === undefined ? [] : [ip],
    hostname: ip === undefined ? address : '',
    network: networkOf(endpoint, mesh),
    serviceAccount: endpoint.serviceAccount ?? '',
    waypoint: around.binding.waypoint?.destination,
    applicationTunnel: around.binding.applicationTunnel,
    networkGateway: around.networkGateway,
    workloadType: 'pod',
    authorizationPolicies: around.policies,
    locality: localityOf(endpoint.locality),
    capacity: endpoint.weight || 1,
    services: servicesOfEndpoint(endpoint.ports ?? {}, around.services),
  };
}

export function networkOf(endpoint: EndpointSpec | undefined, mesh: MeshFacts): string {
  return endpoint?.network || mesh.network;
}

function localityOf(text = ''): Locality {
  const [region = '', zone = '', subzone = ''] = text.split('/');
  return { region, zone, subzone };
}
