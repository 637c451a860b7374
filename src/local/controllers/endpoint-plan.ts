// The pure part of EndpointSlices: the endpoints and ports of one Service, in groups that each become a slice.

import type { EndpointSlice, Pod, Service, ServicePort } from '#k8s/objects.ts';
import { matchesLabels } from '#k8s/selectors.ts';
import { isPodFinished, isPodReady, isPodTerminating } from './pods.ts';

export type Endpoint = EndpointSlice['endpoints'][number];
export type EndpointPort = NonNullable<EndpointSlice['ports']>[number];
export type AddressType = 'IPv4' | 'IPv6';

export interface SlicePlan {
  readonly addressType: AddressType;
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
}

/** The API refuses larger slices. */
const ENDPOINTS_PER_SLICE = 1000;

const familyOf = (address: string): AddressType => (address.includes(':') ? 'IPv6' : 'IPv4');

export function addressTypesOf(service: Service): AddressType[] {
  const { ipFamilies, clusterIPs, clusterIP } = service.spec;
  if (ipFamilies !== undefined && ipFamilies.length > 0)
    return ipFamilies.filter((family): family is AddressType => family === 'IPv4' || family === 'IPv6');
  const addresses = clusterIPs ?? (clusterIP === undefined ? [] : [clusterIP]);
  const families = addresses.filter((address) => address !== 'None' && address !== '').map(familyOf);
  return families.length === 0 ? ['IPv4'] : [...new Set(families)];
}

/** Only Services with a selector; the others' endpoints are somebody else's. */
export const hasPlannedEndpoints = (service: Service): boolean =>
  service.spec.type !== 'ExternalName' && Object.keys(service.spec.selector ?? {}).length > 0;

export function selectsPod(service: Service, pod: Pod): boolean {
  return (
    hasPlannedEndpoints(service) &&
    service.metadata.namespace === pod.metadata.namespace &&
    matchesLabels(service.spec.selector ?? {}, pod.metadata.labels)
  );
}

/**
 * One slice for each address family; more only where a named target port means different numbers in different pods.
 * A family without endpoints still has its (empty) slice, so that watchers can tell "none" from "not known yet".
 */
export function planSlices(service: Service, pods: readonly Pod[]): SlicePlan[] {
  const serving = pods
    .filter((pod) => selectsPod(service, pod) && !isPodFinished(pod))
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  return addressTypesOf(service).flatMap((addressType) => {
    const groups = new Map<string, { ports: EndpointPort[]; endpoints: Endpoint[] }>();
    for (const pod of serving) {
      const address = addressesOf(pod).find((candidate) => familyOf(candidate) === addressType);
      if (address === undefined) continue;
      const ports = portsFor(service, pod);
      const key = JSON.stringify(ports);
      const group = groups.get(key) ?? { ports, endpoints: [] };
      groups.set(key, group);
      group.endpoints.push(endpointOf(service, pod, address));
    }
    if (groups.size === 0) return [{ addressType, ports: [], endpoints: [] }];
    return [...groups.values()].flatMap(({ ports, endpoints }) =>
      chunks(endpoints).map((chunk) => ({ addressType, ports, endpoints: chunk })),
    );
  });
}

function addressesOf(pod: Pod): string[] {
  const { podIPs, podIP } = pod.status ?? {};
  if (podIPs !== undefined && podIPs.length > 0) return podIPs.map(({ ip }) => ip);
  return podIP === undefined || podIP === '' ? [] : [podIP];
}

function endpointOf(service: Service, pod: Pod, address: string): Endpoint {
  const serving = isPodReady(pod);
  const terminating = isPodTerminating(pod);
  const { name, namespace = '', uid } = pod.metadata;
  const { nodeName, hostname, subdomain } = pod.spec;
  return {
    addresses: [address],
    conditions: {
      ready: service.spec.publishNotReadyAddresses === true || (serving && !terminating),
      serving,
      terminating,
    },
    ...(hostname !== undefined && subdomain === service.metadata.name ? { hostname } : {}),
    ...(nodeName === undefined ? {} : { nodeName }),
    targetRef: { kind: 'Pod', name, namespace, ...(uid === undefined ? {} : { uid }) },
  };
}

/** The Service's ports as this pod has them; a named port that no container declares is left out. */
function portsFor(service: Service, pod: Pod): EndpointPort[] {
  const ports: EndpointPort[] = [];
  for (const servicePort of service.spec.ports ?? []) {
    const port = targetPort(servicePort, pod);
    if (port === undefined) continue;
    const { name = '', protocol = 'TCP', appProtocol } = servicePort;
    ports.push({ name, port, protocol, ...(appProtocol === undefined ? {} : { appProtocol }) });
  }
  return ports;
}

function targetPort(
  { port, targetPort: target, protocol = 'TCP' }: ServicePort,
  pod: Pod,
): number | undefined {
  if (target === undefined || target === '' || target === 0) return port;
  if (typeof target === 'number') return target;
  for (const container of pod.spec.containers)
    for (const declared of container.ports ?? [])
      if (declared.name === target && (declared.protocol ?? 'TCP') === protocol)
        return declared.containerPort;
  // Some tools write numbers as text.
  return /^\d+$/.test(target) ? Number(target) : undefined;
}

function chunks(endpoints: readonly Endpoint[]): Endpoint[][] {
  const parts: Endpoint[][] = [];
  for (let at = 0; at < endpoints.length; at += ENDPOINTS_PER_SLICE)
    parts.push(endpoints.slice(at, at + ENDPOINTS_PER_SLICE));
  return parts;
}

/** Field by field: the server may give them back in another order. */
export function comparableEndpoint(endpoint: Endpoint): unknown[] {
  const { addresses, conditions, hostname, nodeName, targetRef } = endpoint;
  return [
    addresses,
    [conditions?.ready, conditions?.serving, conditions?.terminating],
    hostname,
    nodeName,
    [targetRef?.kind, targetRef?.namespace, targetRef?.name, targetRef?.uid],
  ];
}
