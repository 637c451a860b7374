// Kubernetes Service → service of the mesh (control-plane.md §2.13). Pure.

import type { Service as KubeService } from '#k8s/objects.ts';
import type { LoadBalancing, Service } from '#model/service.ts';
import type { NetworkAddress } from '#model/workload.ts';
import { parseIp } from '#net/ip.ts';
import { kubeAppProtocol } from './app-protocol.ts';
import { annotationsOf, type Labels, labelsOf } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';
import type { RecordPort, ServiceRecord } from './service-record.ts';
import { failover, trafficDistribution } from './traffic-distribution.ts';
import { bindService, type WaypointLookup } from './waypoint-binding.ts';

export function serviceHostname(name: string, namespace: string, domainSuffix: string): string {
  return `${name}.${namespace}.svc.${domainSuffix}`;
}

/** Undefined for ExternalName: an alias has no endpoints of its own. */
export function recordOfService(
  object: KubeService,
  look: WaypointLookup,
  mesh: MeshFacts,
): ServiceRecord | undefined {
  const { metadata, spec } = object;
  if (spec.type === 'ExternalName') return undefined;
  const namespace = metadata.namespace ?? '';
  const labels = labelsOf(object);
  const annotations = annotationsOf(object);
  const binding = bindService({ namespace, labels, annotations }, look, { sameNamespaceOnly: false });
  const ports = portsOf(object);
  return {
    source: { kind: 'Service', namespace, name: metadata.name },
    created: metadata.creationTimestamp ?? '',
    selector: spec.selector ?? {},
    ports,
    binding,
    service: {
      name: metadata.name,
      namespace,
      hostname: serviceHostname(metadata.name, namespace, mesh.domainSuffix),
      vips: vipsOf(object, mesh.network),
      cidrVips: [],
      ports: new Map(ports.map(({ port, target }) => [port, target])),
      appProtocols: new Map(tcpFirst(object).map((port) => [port.port, kubeAppProtocol(port)])),
      subjectAltNames: [],
      waypoint: binding.waypoint?.destination,
      weightedWaypoints: binding.weighted,
      ingressUseWaypoint: binding.ingressUseWaypoint,
      loadBalancer: loadBalancingOf(object, look.namespaceAnnotations(namespace)),
      ipFamilies: ipFamiliesOf(object),
      visibility: 'Public',
    },
  };
}

function vipsOf({ spec: { clusterIP, clusterIPs = [] } }: KubeService, network: string): NetworkAddress[] {
  const texts = clusterIPs.length > 0 ? clusterIPs : [clusterIP ?? ''];
  // Headless services carry the word None.
  return texts.flatMap((text) => {
    const ip = parseIp(text);
    return ip === undefined ? [] : [{ network, ip }];
  });
}

/** Named target ports differ from pod to pod: 0 here, the number in each workload. */
const portsOf = (object: KubeService): RecordPort[] =>
  tcpFirst(object).map(({ port, targetPort = port, name = '' }) =>
    typeof targetPort === 'string'
      ? { port, target: 0, name, targetName: targetPort }
      : { port, target: targetPort, name },
  );

/** One number may serve UDP and TCP; the mesh carries TCP, so TCP decides. Ports of UDP alone are listed as they are. */
function tcpFirst({ spec: { ports = [] } }: KubeService): NonNullable<KubeService['spec']['ports']> {
  const byNumber = new Map<number, (typeof ports)[number]>();
  for (const port of ports)
    if (port.protocol !== 'UDP' || !byNumber.has(port.port)) byNumber.set(port.port, port);
  return [...byNumber.values()];
}

function loadBalancingOf(object: KubeService, ofNamespace: Labels): LoadBalancing | undefined {
  const healthPolicy = object.spec.publishNotReadyAddresses === true ? 'AllowAll' : 'OnlyHealthy';
  if (object.spec.internalTrafficPolicy === 'Local')
    return { routingPreferences: ['Node'], mode: 'Strict', healthPolicy };
  return failover(
    trafficDistribution(object.spec.trafficDistribution, annotationsOf(object), ofNamespace),
    healthPolicy,
  );
}

function ipFamiliesOf({ spec: { ipFamilies = [] } }: KubeService): Service['ipFamilies'] {
  if (ipFamilies.length > 1) return 'Dual';
  if (ipFamilies[0] === 'IPv4') return 'IPv4';
  return ipFamilies[0] === 'IPv6' ? 'IPv6' : undefined;
}
