// Kubernetes Service → Service of the mesh (control-plane.md §2.13). Pure.

import type { Service as KubeService, Namespace } from '#k8s/objects.ts';
import type { LoadBalancing, LoadBalancingScope, Service } from '#model/service.ts';
import type { NetworkAddress } from '#model/workload.ts';
import { parseIp } from '#net/ip.ts';
import { ANNOTATION, annotationsOf } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';

export function serviceHostname(service: KubeService, mesh: Pick<MeshFacts, 'domainSuffix'>): string {
  return `${service.metadata.name}.${service.metadata.namespace ?? ''}.svc.${mesh.domainSuffix}`;
}

/** Undefined for ExternalName: an alias has no endpoints of its own. */
export function serviceOf(
  service: KubeService,
  namespace: Namespace | undefined,
  mesh: MeshFacts,
): Service | undefined {
  if (service.spec.type === 'ExternalName') return undefined;
  return {
    name: service.metadata.name,
    namespace: service.metadata.namespace ?? '',
    hostname: serviceHostname(service, mesh),
    vips: vipsOf(service, mesh.network),
    cidrVips: [],
    ports: portsOf(service),
    subjectAltNames: [],
    waypoint: undefined,
    weightedWaypoints: [],
    loadBalancer: loadBalancingOf(service, namespace),
    ipFamilies: ipFamiliesOf(service),
    // Only ServiceEntries can hold a second record of one host name.
    canonical: true,
    visibility: 'Public',
  };
}

function vipsOf(service: KubeService, network: string): NetworkAddress[] {
  const { clusterIP, clusterIPs = [] } = service.spec;
  const texts = clusterIPs.length > 0 ? clusterIPs : [clusterIP ?? ''];
  // Headless services carry the word None.
  return texts.flatMap((text) => {
    const ip = parseIp(text);
    return ip === undefined ? [] : [{ network, ip }];
  });
}

/** Named target ports differ from pod to pod: 0 here, the number in each workload. */
function portsOf(service: KubeService): ReadonlyMap<number, number> {
  const ports = new Map<number, number>();
  for (const port of service.spec.ports ?? []) {
    if (ports.has(port.port) && port.protocol === 'UDP') continue;
    ports.set(port.port, typeof port.targetPort === 'string' ? 0 : (port.targetPort ?? port.port));
  }
  return ports;
}

const FAILOVER_ZONE: readonly LoadBalancingScope[] = ['Network', 'Region', 'Zone'];
const FAILOVER_NODE: readonly LoadBalancingScope[] = ['Network', 'Region', 'Zone', 'Subzone', 'Node'];

function loadBalancingOf(service: KubeService, namespace: Namespace | undefined): LoadBalancing | undefined {
  const healthPolicy = service.spec.publishNotReadyAddresses === true ? 'AllowAll' : 'OnlyHealthy';
  if (service.spec.internalTrafficPolicy === 'Local')
    return { routingPreferences: ['Node'], mode: 'Strict', healthPolicy };
  switch (trafficDistributionOf(service, namespace)) {
    case 'zone':
      return { routingPreferences: FAILOVER_ZONE, mode: 'Failover', healthPolicy };
    case 'node':
      return { routingPreferences: FAILOVER_NODE, mode: 'Failover', healthPolicy };
    default:
      return healthPolicy === 'AllowAll'
        ? { routingPreferences: [], mode: 'Standard', healthPolicy }
        : undefined;
  }
}

/** The first of field, annotation and the namespace's annotation that is there decides, even when its value is unknown. */
function trafficDistributionOf(
  service: KubeService,
  namespace: Namespace | undefined,
): 'zone' | 'node' | 'none' {
  const value =
    service.spec.trafficDistribution ??
    annotationsOf(service)[ANNOTATION.trafficDistribution] ??
    (namespace === undefined ? undefined : annotationsOf(namespace)[ANNOTATION.trafficDistribution]);
  switch (value?.toLowerCase()) {
    case 'prefersamezone':
    case 'preferclose':
      return 'zone';
    case 'prefersamenode':
      return 'node';
    default:
      return 'none';
  }
}

function ipFamiliesOf(service: KubeService): Service['ipFamilies'] {
  const families = service.spec.ipFamilies ?? [];
  if (families.length > 1) return 'Dual';
  if (families[0] === 'IPv4') return 'IPv4';
  return families[0] === 'IPv6' ? 'IPv6' : undefined;
}
