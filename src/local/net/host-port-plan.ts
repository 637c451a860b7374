// Which ports of the host belong to which service port (pure).

import type { EndpointSlice, Service, ServicePort } from '#k8s/objects.ts';
import { ADDRESSES, type Family, type NodePlan, networkOfFamily } from '#local/machine/plan.ts';
import { formatHostPort } from '#net/host-port.ts';
import { endpointsOf, groupByService } from './service-targets.ts';

export interface HostPortUse {
  /** Whose loopback address the port is on. */
  readonly family: Family;
  readonly hostPort: number;
  /** `namespace/name` of the service. */
  readonly key: string;
  /** Where its connections are copied to, on a node. */
  readonly nodePort: number;
}

export interface HostPortPlan {
  readonly uses: readonly HostPortUse[];
  readonly conflicts: readonly { readonly key: string; readonly family: Family; readonly text: string }[];
}

const keyOf = ({ metadata }: Service): string => `${metadata.namespace}/${metadata.name}`;
const isTcp = ({ protocol = 'TCP' }: ServicePort): boolean => protocol === 'TCP';

/** Of two services that want one port the older has it. */
export function hostPortUses(services: Iterable<Service>): HostPortPlan {
  const byAge = [...services].sort((a, b) => {
    const [left, right] = [a, b].map(
      ({ metadata }) => `${metadata.creationTimestamp ?? ''} ${metadata.uid ?? ''}`,
    );
    return (left as string) < (right as string) ? -1 : 1;
  });
  const uses = new Map<string, HostPortUse>();
  const conflicts: { key: string; family: Family; text: string }[] = [];
  const want = (hostPort: number, service: Service, nodePort: number, family: Family): void => {
    const key = keyOf(service);
    const place = `${family} ${hostPort}`;
    const holder = uses.get(place);
    if (holder === undefined) uses.set(place, { family, hostPort, key, nodePort });
    else if (holder.key !== key || holder.nodePort !== nodePort)
      conflicts.push({
        key,
        family,
        text: `port ${formatHostPort(ADDRESSES[family].host, hostPort)} of the host belongs to service ${holder.key}`,
      });
  };
  for (const service of byAge) {
    const { type, ports = [], loadBalancerClass } = service.spec;
    if (type !== 'NodePort' && type !== 'LoadBalancer') continue;
    for (const port of ports) {
      if (!isTcp(port) || !port.nodePort) continue;
      for (const family of hostFamilies(service)) {
        want(port.nodePort, service, port.nodePort, family);
        if (type === 'LoadBalancer' && loadBalancerClass === undefined)
          want(port.port, service, port.nodePort, family);
      }
    }
  }
  return { uses: [...uses.values()], conflicts };
}

/** A service answers on the host's loopback address of each of its families, in its order. */
export const hostFamilies = ({ spec: { ipFamilies = ['IPv4'] } }: Service): readonly Family[] =>
  ipFamilies.filter((family): family is Family => family in ADDRESSES);

/** What the host side of a service cannot do, each as a sentence. */
export function unserved({ spec: { type, ports = [] } }: Service): string[] {
  if (type !== 'NodePort' && type !== 'LoadBalancer') return [];
  return ports.flatMap((port) => {
    const { name, port: number, protocol } = port;
    const which = name === undefined || name === '' ? `port ${number}` : `port ${name} (${number})`;
    if (!isTcp(port)) return [`${which} is ${protocol}: only TCP ports answer on the host`];
    return port.nodePort
      ? []
      : [
          `${which} has no node port, through which the host reaches it (allocateLoadBalancerNodePorts: false)`,
        ];
  });
}

/**
 * The node's address whose port a connection is copied to, of the family it came over. With externalTrafficPolicy Local the node
 * must have an endpoint itself; undefined when there is none.
 */
export function nodeAddressFor(
  service: Service,
  { family, nodePort }: Pick<HostPortUse, 'family' | 'nodePort'>,
  slices: Iterable<EndpointSlice>,
  nodes: readonly NodePlan[],
): string | undefined {
  const addressOf = (node: NodePlan | undefined): string | undefined =>
    node === undefined ? undefined : networkOfFamily(node, family)?.address;
  if (service.spec.externalTrafficPolicy !== 'Local') return addressOf(nodes[0]);
  const port = service.spec.ports?.find((each) => each.nodePort === nodePort && isTcp(each));
  const own = groupByService(slices, family).get(keyOf(service)) ?? [];
  return port === undefined
    ? undefined
    : addressOf(nodes.find(({ name }) => endpointsOf(own, port, name).length > 0));
}
