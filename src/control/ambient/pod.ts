// Pod → Workload (control-plane.md §2.4, §2.9). Pure: everything it depends on comes in as an argument.

import type { Service as KubeService, Node, Pod } from '#k8s/objects.ts';
import type { Locality, PortMap, ServiceKey, Workload, WorkloadUid } from '#model/workload.ts';
import { serviceKey } from '#model/workload.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';
import { ANNOTATION, annotationsOf, LABEL, labelsOf } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';
import { workloadNameOf } from './owner.ts';
import { serviceHostname } from './service.ts';

export interface PodSurroundings {
  readonly node: Node | undefined;
  /** Services of the pod's namespace that have it as a member. */
  readonly services: readonly KubeService[];
  /** `namespace/name` of the selector-scoped policies that apply, in the order in which they are listed (§2.16). */
  readonly policies: readonly string[];
}

export function podUid(clusterId: string, namespace: string, name: string): WorkloadUid {
  // The core API group is empty, hence the empty segment.
  return `${clusterId}//Pod/${namespace}/${name}` as WorkloadUid;
}

/** Undefined when the pod is over, or has no usable address yet. */
export function workloadOfPod(pod: Pod, mesh: MeshFacts, around: PodSurroundings): Workload | undefined {
  const { name } = pod.metadata;
  const namespace = pod.metadata.namespace ?? '';
  if (pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded') return undefined;
  const ips = addressesOf(pod);
  if (ips === undefined) return undefined;
  const labels = labelsOf(pod);
  const workloadName = workloadNameOf(pod);
  const nativeTunnel = (labels[LABEL.tunnel] ?? '').split(',').includes('http');
  const redirected = annotationsOf(pod)[ANNOTATION.redirection] === 'enabled';
  return {
    uid: podUid(mesh.clusterId, namespace, name),
    name,
    namespace,
    ips,
    network: mesh.network,
    protocol: redirected || nativeTunnel ? 'HBONE' : 'TCP',
    networkMode: pod.spec.hostNetwork === true ? 'HostNetwork' : 'Standard',
    trustDomain: mesh.trustDomain,
    serviceAccount: pod.spec.serviceAccountName ?? '',
    waypoint: undefined,
    networkGateway: undefined,
    node: pod.spec.nodeName ?? '',
    hostname: '',
    workloadName,
    workloadType: 'pod',
    canonicalName:
      labels[LABEL.canonicalName] ?? labels['app.kubernetes.io/name'] ?? labels.app ?? workloadName,
    canonicalRevision:
      labels[LABEL.canonicalRevision] ?? labels['app.kubernetes.io/version'] ?? labels.version ?? 'latest',
    clusterId: mesh.clusterId,
    nativeTunnel,
    applicationTunnel: undefined,
    authorizationPolicies: around.policies,
    status: isServing(pod) ? 'Healthy' : 'Unhealthy',
    locality: localityOf(around.node),
    capacity: 1,
    services: membershipOf(pod, around.services, mesh),
  };
}

function isServing(pod: Pod): boolean {
  if (pod.metadata.deletionTimestamp !== undefined) return false;
  return (
    pod.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ===
    true
  );
}

function addressesOf(pod: Pod): readonly IpAddress[] | undefined {
  const listed = pod.status?.podIPs?.map((entry) => entry.ip) ?? [];
  const single = pod.status?.podIP;
  const texts = listed.length > 0 ? listed : single ? [single] : [];
  const parsed = texts.map(parseIp);
  return texts.length > 0 && parsed.every((address) => address !== undefined) ? parsed : undefined;
}

const NOWHERE: Locality = { region: '', zone: '', subzone: '' };

function localityOf(node: Node | undefined): Locality {
  if (node === undefined) return NOWHERE;
  const labels = labelsOf(node);
  return {
    region: labels[LABEL.region] ?? '',
    zone: labels[LABEL.zone] ?? '',
    subzone: labels[LABEL.subzone] ?? '',
  };
}

/** A service stays in the map even when none of its ports resolves for this pod. */
function membershipOf(
  pod: Pod,
  services: readonly KubeService[],
  mesh: MeshFacts,
): ReadonlyMap<ServiceKey, PortMap> {
  const entries = services.map((service): [ServiceKey, PortMap] => {
    const key = serviceKey(service.metadata.namespace ?? '', serviceHostname(service, mesh));
    return [key, portsOn(pod, service)];
  });
  // One order for one content: the version is a hash of the encoded bytes.
  return new Map(entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

function portsOn(pod: Pod, service: KubeService): PortMap {
  const ports = new Map<number, number>();
  for (const port of service.spec.ports ?? []) {
    // One number may serve UDP and TCP; the mesh carries TCP, so TCP decides.
    if (ports.has(port.port) && port.protocol === 'UDP') continue;
    const target =
      typeof port.targetPort === 'string' ? namedPort(pod, port.targetPort) : (port.targetPort ?? port.port);
    if (target !== undefined) ports.set(port.port, target);
  }
  return ports;
}

function namedPort(pod: Pod, name: string): number | undefined {
  const sidecars = (pod.spec.initContainers ?? []).filter(
    (container) => (container as { restartPolicy?: string }).restartPolicy === 'Always',
  );
  for (const container of [...pod.spec.containers, ...sidecars])
    for (const port of container.ports ?? [])
      if (port.name === name && (port.protocol ?? 'TCP') === 'TCP') return port.containerPort;
  return undefined;
}
