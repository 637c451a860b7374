// Which ports of the host belong to which service port (pure).

import type { EndpointSlice, Service, ServicePort } from '#k8s/objects.ts';
import { endpointsOf, groupByService, type NodeView } from './service-targets.ts';

export interface HostPortUse {
  /** On the host's 127.0.0.1. */
  readonly hostPort: number;
  /** `namespace/name` of the service. */
  readonly key: string;
  /** Where its connections are copied to, on a node. */
  readonly nodePort: number;
}

export interface HostPortPlan {
  readonly uses: readonly HostPortUse[];
  readonly conflicts: readonly { readonly key: string; readonly text: string }[];
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
  const uses = new Map<number, HostPortUse>();
  const conflicts: { key: string; text: string }[] = [];
  const want = (hostPort: number, service: Service, nodePort: number): void => {
    const key = keyOf(service);
    const holder = uses.get(hostPort);
    if (holder === undefined) uses.set(hostPort, { hostPort, key, nodePort });
    else if (holder.key !== key || holder.nodePort !== nodePort)
      conflicts.push({ key, text: `port ${hostPort} of the host belongs to service ${holder.key}` });
  };
  for (const service of byAge) {
    const { type, ports = [], loadBalancerClass } = service.spec;
    if (type !== 'NodePort' && type !== 'LoadBalancer') continue;
    for (const port of ports) {
      if (!isTcp(port) || !port.nodePort) continue;
      want(port.nodePort, service, port.nodePort);
      if (type === 'LoadBalancer' && loadBalancerClass === undefined) want(port.port, service, port.nodePort);
    }
  }
  return { uses: [...uses.values()], conflicts };
}

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

export interface HostNode extends NodeView {
  readonly v6?: { readonly address: string };
}

/**
 * The node's address whose port a connection is copied to, of the service's first family. With externalTrafficPolicy Local it must have an endpoint itself; undefined
 * when there is none.
 */
export function nodeAddressFor(
  service: Service,
  nodePort: number,
  slices: Iterable<EndpointSlice>,
  nodes: readonly HostNode[],
): string | undefined {
  const family = service.spec.ipFamilies?.[0] === 'IPv6' ? 'IPv6' : 'IPv4';
  const addressOf = (node: HostNode | undefined): string | undefined =>
    family === 'IPv6' ? node?.v6?.address : node?.address;
  if (service.spec.externalTrafficPolicy !== 'Local') return addressOf(nodes[0]);
  const port = service.spec.ports?.find((each) => each.nodePort === nodePort && isTcp(each));
  const own = groupByService(slices, family).get(keyOf(service)) ?? [];
  return port === undefined
    ? undefined
    : addressOf(nodes.find(({ name }) => endpointsOf(own, port, name).length > 0));
}
