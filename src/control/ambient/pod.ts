// Pod → Workload (control-plane.md §2.4). Pure: everything it depends on comes in as an argument.

import type { Node, Pod } from '#k8s/objects.ts';
import type { GatewayRef, Locality, Workload, WorkloadUid } from '#model/workload.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';
import { annotationsOf, LABEL, labelsOf } from './labels.ts';
import { servicesOfPod } from './membership.ts';
import type { MeshFacts } from './mesh-facts.ts';
import { workloadNameOf } from './owner.ts';
import type { ServiceRecord } from './service-record.ts';
import type { WorkloadBinding } from './waypoint-binding.ts';
import { canonicalNames, plainWorkload, tunnelOf } from './workload.ts';

/** What a workload depends on besides the object that it is made from. */
export interface Surroundings {
  /** Services that have it as a member. */
  readonly services: readonly ServiceRecord[];
  /** `namespace/name` of the selector-scoped policies that apply, in the order in which they are listed (§2.16). */
  readonly policies: readonly string[];
  readonly binding: WorkloadBinding;
  /** How other networks reach its own, if there is a gateway for it (§2.8). */
  readonly networkGateway: GatewayRef | undefined;
}

export function podUid(clusterId: string, namespace: string, name: string): WorkloadUid {
  // The core API group is empty, hence the empty segment.
  return `${clusterId}//Pod/${namespace}/${name}` as WorkloadUid;
}

/** Whether the pod is, or soon will be, somebody to talk to: not over, and with usable addresses. */
export function podAddresses(pod: Pod): readonly IpAddress[] | undefined {
  if (pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded') return undefined;
  const listed = pod.status?.podIPs?.map((entry) => entry.ip) ?? [];
  const single = pod.status?.podIP;
  const texts = listed.length > 0 ? listed : single ? [single] : [];
  const parsed = texts.map(parseIp);
  return texts.length > 0 && parsed.every((address) => address !== undefined) ? parsed : undefined;
}

export function workloadOfPod(
  pod: Pod,
  ips: readonly IpAddress[],
  mesh: MeshFacts,
  node: Node | undefined,
  around: Surroundings,
): Workload {
  const { name } = pod.metadata;
  const namespace = pod.metadata.namespace ?? '';
  const labels = labelsOf(pod);
  const workloadName = workloadNameOf(pod);
  return {
    ...plainWorkload(mesh),
    uid: podUid(mesh.clusterId, namespace, name),
    name,
    namespace,
    ips,
    ...tunnelOf(labels, annotationsOf(pod)),
    networkMode: pod.spec.hostNetwork === true ? 'HostNetwork' : 'Standard',
    serviceAccount: pod.spec.serviceAccountName ?? '',
    waypoint: around.binding.waypoint?.destination,
    applicationTunnel: around.binding.applicationTunnel,
    networkGateway: around.networkGateway,
    node: pod.spec.nodeName ?? '',
    workloadName,
    workloadType: 'pod',
    ...canonicalNames(labels, workloadName),
    authorizationPolicies: around.policies,
    status: isServing(pod) ? 'Healthy' : 'Unhealthy',
    locality: localityOf(node),
    services: servicesOfPod(pod, around.services),
  };
}

function isServing(pod: Pod): boolean {
  if (pod.metadata.deletionTimestamp !== undefined) return false;
  return (
    pod.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ===
    true
  );
}

export function localityOf(node: Node | undefined): Locality {
  const labels = labelsOf(node);
  return {
    region: labels[LABEL.region] ?? '',
    zone: labels[LABEL.zone] ?? '',
    subzone: labels[LABEL.subzone] ?? '',
  };
}
