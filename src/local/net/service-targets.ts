// Which endpoints a service port has on one node (pure): from Services and EndpointSlices, by the rules of kube-proxy.
// What nft is told of them is service-rules.ts.

import { isIPv4, isIPv6 } from 'node:net';
import type { EndpointSlice, Service, ServicePort } from '#k8s/objects.ts';
import { ADDRESSES, API_PORT, type Family } from '#local/machine/plan.ts';
import { parseIp } from '#net/ip.ts';

export const isOfFamily = (address: string, family: Family): boolean =>
  family === 'IPv4' ? isIPv4(address) : isIPv6(address);

export interface Endpoint {
  readonly ip: string;
  readonly port: number;
}

export interface ServiceTarget {
  /** For people: `shop/web:http`. */
  readonly name: string;
  readonly address: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  readonly endpoints: readonly Endpoint[];
  /** Node port and external addresses. */
  readonly external?: ExternalAccess;
  /** sessionAffinity ClientIP: how long a client keeps its endpoint after its last connection. */
  readonly affinityS?: number;
}

export interface ExternalAccess {
  readonly addresses: readonly Endpoint[];
  /** Of any node. */
  readonly endpoints: readonly Endpoint[];
  /** externalTrafficPolicy Local: clients from outside get these, and the pod sees their true address. */
  readonly local?: readonly Endpoint[];
}

export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
export const DEFAULT_AFFINITY_S = 10_800;

/** Served by LOCAL itself, whatever the objects say: without them nothing in the cluster could start. */
export function fixedTargets(family: Family): readonly ServiceTarget[] {
  const { apiService, dnsService, machine } = ADDRESSES[family];
  return [
    {
      name: 'default/kubernetes:https',
      address: apiService,
      protocol: 'tcp',
      port: 443,
      endpoints: [{ ip: machine, port: API_PORT }],
    },
    ...(['udp', 'tcp'] as const).map(
      (protocol): ServiceTarget => ({
        name: `kube-system/kube-dns:${protocol}`,
        address: dnsService,
        protocol,
        port: 53,
        endpoints: [{ ip: machine, port: 53 }],
      }),
    ),
  ];
}

export interface NodeView {
  readonly name: string;
  /** Where its node ports are: of the family asked about. */
  readonly address: string;
}

/** `primary`: the family of the two services that LOCAL serves itself; they have one only, as in any cluster by default. */
export function serviceTargets(
  services: Iterable<Service>,
  slices: Iterable<EndpointSlice>,
  node: NodeView,
  family: Family = 'IPv4',
  primary: Family = 'IPv4',
): ServiceTarget[] {
  const slicesOf = groupByService(slices, family);
  const fixed = family === primary ? fixedTargets(family) : [];
  const taken = new Set<string>(fixed.map(({ address }) => address));
  const targets = [...fixed];
  for (const service of services) {
    const { metadata, spec } = service;
    const address = clusterAddresses(service).find((each) => isOfFamily(each, family));
    if (address === undefined || spec.type === 'ExternalName' || taken.has(address)) continue;
    const key = `${metadata.namespace}/${metadata.name}`;
    const own = slicesOf.get(key) ?? [];
    for (const port of spec.ports ?? []) {
      const protocol = (port.protocol ?? 'TCP').toLowerCase();
      if (protocol !== 'tcp' && protocol !== 'udp') continue;
      const external = externalAccess(service, port, own, { node, family });
      targets.push({
        name: `${key}:${port.name ?? port.port}`,
        address,
        protocol,
        port: port.port,
        endpoints: endpointsOf(own, port, spec.internalTrafficPolicy === 'Local' ? node.name : undefined),
        ...(external === undefined ? {} : { external }),
        ...(spec.sessionAffinity === 'ClientIP'
          ? { affinityS: spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? DEFAULT_AFFINITY_S }
          : {}),
      });
    }
  }
  return targets.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** `None` of a headless service among them. */
export const clusterAddresses = ({ spec: { clusterIP, clusterIPs } }: Service): readonly string[] =>
  (clusterIPs ?? (clusterIP === undefined ? [] : [clusterIP])).map(canonical);

/** People write IPv6 addresses in many ways; the kernel and we in one. */
const canonical = (address: string): string => parseIp(address) ?? address;

export function groupByService(
  slices: Iterable<EndpointSlice>,
  family: Family,
): Map<string, EndpointSlice[]> {
  const groups = new Map<string, EndpointSlice[]>();
  for (const slice of slices) {
    const service = slice.metadata.labels?.[SERVICE_NAME_LABEL];
    if (service === undefined || slice.addressType !== family) continue;
    const key = `${slice.metadata.namespace}/${service}`;
    const held = groups.get(key);
    if (held === undefined) groups.set(key, [slice]);
    else held.push(slice);
  }
  return groups;
}

function externalAccess(
  { spec }: Service,
  port: ServicePort,
  slices: readonly EndpointSlice[],
  { node, family }: { readonly node: NodeView; readonly family: Family },
): ExternalAccess | undefined {
  const addresses: Endpoint[] = (spec.externalIPs ?? [])
    .map(canonical)
    .filter((ip) => isOfFamily(ip, family))
    .map((ip) => ({ ip, port: port.port }));
  const hasNodePort = (spec.type === 'NodePort' || spec.type === 'LoadBalancer') && (port.nodePort ?? 0) > 0;
  if (hasNodePort) addresses.push({ ip: node.address, port: port.nodePort as number });
  if (addresses.length === 0) return undefined;
  const endpoints = endpointsOf(slices, port, undefined);
  return spec.externalTrafficPolicy === 'Local'
    ? { addresses, endpoints, local: endpointsOf(slices, port, node.name) }
    : { addresses, endpoints };
}

/**
 * The ready endpoints of a port; if there are none, those that still serve while they end (a roll-out of a single replica
 * then loses no connection). `onlyNode` comes first: a node whose last endpoint ends keeps to it.
 */
export function endpointsOf(
  slices: readonly EndpointSlice[],
  port: Pick<ServicePort, 'name' | 'protocol'>,
  onlyNode: string | undefined,
): Endpoint[] {
  const ready = new Map<string, Endpoint>();
  const ending = new Map<string, Endpoint>();
  for (const slice of slices) {
    const to = slice.ports?.find(
      ({ name, protocol }) =>
        (name ?? '') === (port.name ?? '') && (protocol ?? 'TCP') === (port.protocol ?? 'TCP'),
    )?.port;
    if (to === undefined) continue;
    for (const { addresses, conditions, nodeName } of slice.endpoints ?? []) {
      const [first = ''] = addresses; // all addresses of one endpoint are the same backend
      const ip = canonical(first);
      if (!isOfFamily(ip, slice.addressType as Family)) continue;
      if (onlyNode !== undefined && nodeName !== onlyNode) continue;
      const endpoint = { ip, port: to };
      if (conditions?.ready !== false) ready.set(`${ip}:${to}`, endpoint);
      else if (conditions.serving === true && conditions.terminating === true)
        ending.set(`${ip}:${to}`, endpoint);
    }
  }
  const chosen = ready.size > 0 ? ready : ending;
  return [...chosen.values()].sort((a, b) => (a.ip === b.ip ? a.port - b.port : a.ip < b.ip ? -1 : 1));
}
