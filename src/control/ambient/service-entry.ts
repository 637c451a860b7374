// ServiceEntry → one service for each host (control-plane.md §2.13). Pure. Its endpoints: endpoint.ts.

import type { ServiceEntry } from '#k8s/mesh-objects.ts';
import type { LoadBalancing } from '#model/service.ts';
import type { NetworkAddress } from '#model/workload.ts';
import { type Cidr, parseCidr } from '#net/cidr.ts';
import { familyOf, type IpAddress, parseIp } from '#net/ip.ts';
import { protocolNamed } from './app-protocol.ts';
import { annotationsOf, LABEL, labelsOf } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';
import type { RecordPort, ServiceRecord } from './service-record.ts';
import { visibilityIn } from './service-visibility.ts';
import { failover, trafficDistribution } from './traffic-distribution.ts';
import { bindService, type WaypointLookup } from './waypoint-binding.ts';

export const resolutionOf = (
  object: ServiceEntry,
): NonNullable<NonNullable<ServiceEntry['spec']>['resolution']> => object.spec?.resolution ?? 'NONE';

const isWildcard = (host: string): boolean => host.startsWith('*');

/** Empty when the entry is not to be seen at all, or when one of its addresses is none. */
export function recordsOfServiceEntry(
  object: ServiceEntry,
  look: WaypointLookup,
  mesh: MeshFacts,
): ServiceRecord[] {
  const spec = object.spec ?? {};
  const namespace = object.metadata.namespace ?? '';
  const visibility = visibilityIn(mesh.serviceEntryVisibility, look.namespaceLabels(namespace));
  const stated = addressesOf(spec.addresses ?? [], mesh.network);
  if (visibility === 'None' || stated === undefined) return [];
  const labels = labelsOf(object);
  const annotations = annotationsOf(object);
  const sameNamespaceOnly = visibility === 'Namespace';
  const binding = bindService({ namespace, labels, annotations }, look, { sameNamespaceOnly });
  const ports = (spec.ports ?? []).map(
    ({ number, targetPort, name = '' }): RecordPort => ({
      port: number,
      target: targetPort || number,
      name,
    }),
  );
  const appProtocols = new Map(
    (spec.ports ?? []).map(({ number, protocol }) => [number, protocolNamed(protocol)]),
  );
  // Without resolution the caller's own destination is dialled: there is nothing to balance.
  const loadBalancer: LoadBalancing | undefined =
    resolutionOf(object) === 'NONE'
      ? { routingPreferences: [], mode: 'Passthrough', healthPolicy: 'AllowAll' }
      : failover(
          trafficDistribution(undefined, annotations, look.namespaceAnnotations(namespace)),
          'OnlyHealthy',
        );
  return [...new Set(spec.hosts ?? [])].map((hostname) => ({
    source: { kind: 'ServiceEntry', namespace, name: object.metadata.name },
    created: object.metadata.creationTimestamp ?? '',
    selector: spec.workloadSelector?.labels ?? {},
    ports,
    binding,
    service: {
      name: object.metadata.name,
      namespace,
      hostname,
      ...(stated.vips.length + stated.cidrVips.length > 0
        ? stated
        : { vips: allocatedVips(object, hostname, mesh), cidrVips: [] }),
      ports: new Map(ports.map(({ port, target }) => [port, target])),
      appProtocols,
      subjectAltNames: spec.subjectAltNames ?? [],
      waypoint: binding.waypoint?.destination,
      weightedWaypoints: binding.weighted,
      ingressUseWaypoint: binding.ingressUseWaypoint,
      loadBalancer,
      ipFamilies: undefined,
      visibility,
    },
  }));
}

interface Addresses {
  readonly vips: readonly NetworkAddress[];
  readonly cidrVips: readonly { readonly network: string; readonly cidr: Cidr }[];
}

function addressesOf(texts: readonly string[], network: string): Addresses | undefined {
  const vips: NetworkAddress[] = [];
  const cidrVips: { network: string; cidr: Cidr }[] = [];
  for (const text of texts) {
    const cidr = parseCidr(text);
    if (cidr === undefined) return undefined;
    if (cidr.prefixLength === widthOf(cidr.address)) vips.push({ network, ip: cidr.address });
    else cidrVips.push({ network, cidr });
  }
  return { vips, cidrVips };
}

const widthOf = (address: IpAddress): number => (familyOf(address) === 4 ? 32 : 128);

/**
 * Whether the control plane gives the host addresses, and so uses the ones in the entry's status (§2.14). A wildcard
 * stands for many hosts; one address for all of them serves only who resolves each call by itself.
 */
export function isAllocatable(object: ServiceEntry, host: string): boolean {
  return (
    resolutionOf(object) !== 'NONE' &&
    (object.spec?.addresses ?? []).length === 0 &&
    labelsOf(object)[LABEL.autoAllocate]?.toLowerCase() !== 'false' &&
    (!isWildcard(host) || resolutionOf(object) === 'DYNAMIC_DNS')
  );
}

function allocatedVips(object: ServiceEntry, host: string, mesh: MeshFacts): NetworkAddress[] {
  if (!mesh.allocatedVips || !isAllocatable(object, host)) return [];
  return (object.status?.addresses ?? []).flatMap((entry) => {
    const ip = entry.host === host ? parseIp(entry.value) : undefined;
    return ip === undefined ? [] : [{ network: mesh.network, ip }];
  });
}
