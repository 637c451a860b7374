// ClusterIP services as one nft table per node (pure): which endpoints a service port has, and the text of the table.
// Written whole each time; nft replaces it in one transaction.

import { createHash } from 'node:crypto';
import { isIPv4 } from 'node:net';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import {
  API_PORT,
  API_SERVICE_ADDRESS,
  DNS_SERVICE_ADDRESS,
  MACHINE_ADDRESS,
  SERVICE_CIDR,
} from '#local/machine/plan.ts';

export interface ServiceTarget {
  /** For people: `shop/web:http`. */
  readonly name: string;
  readonly address: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  readonly endpoints: readonly { readonly ip: string; readonly port: number }[];
}

export const SERVICE_TABLE = 'culvert-svc';
export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

/** Served by LOCAL itself, whatever the objects say: without them nothing in the cluster could start. */
export const FIXED_TARGETS: readonly ServiceTarget[] = [
  {
    name: 'default/kubernetes:https',
    address: API_SERVICE_ADDRESS,
    protocol: 'tcp',
    port: 443,
    endpoints: [{ ip: MACHINE_ADDRESS, port: API_PORT }],
  },
  ...(['udp', 'tcp'] as const).map(
    (protocol): ServiceTarget => ({
      name: `kube-system/kube-dns:${protocol}`,
      address: DNS_SERVICE_ADDRESS,
      protocol,
      port: 53,
      endpoints: [{ ip: MACHINE_ADDRESS, port: 53 }],
    }),
  ),
];

export function serviceTargets(
  services: Iterable<Service>,
  slices: Iterable<EndpointSlice>,
  nodeName: string,
): ServiceTarget[] {
  const slicesOf = new Map<string, EndpointSlice[]>();
  for (const slice of slices) {
    const service = slice.metadata.labels?.[SERVICE_NAME_LABEL];
    if (service === undefined || slice.addressType !== 'IPv4') continue;
    const key = `${slice.metadata.namespace}/${service}`;
    const held = slicesOf.get(key);
    if (held === undefined) slicesOf.set(key, [slice]);
    else held.push(slice);
  }
  const taken = new Set<string>(FIXED_TARGETS.map(({ address }) => address));
  const targets = [...FIXED_TARGETS];
  for (const { metadata, spec } of services) {
    const address = spec.clusterIP;
    if (address === undefined || !isIPv4(address) || spec.type === 'ExternalName' || taken.has(address))
      continue;
    const key = `${metadata.namespace}/${metadata.name}`;
    for (const port of spec.ports ?? []) {
      const protocol = (port.protocol ?? 'TCP').toLowerCase();
      if (protocol !== 'tcp' && protocol !== 'udp') continue;
      targets.push({
        name: `${key}:${port.name ?? port.port}`,
        address,
        protocol,
        port: port.port,
        endpoints: endpointsOf(
          slicesOf.get(key) ?? [],
          port.name ?? '',
          spec.internalTrafficPolicy === 'Local' ? nodeName : undefined,
        ),
      });
    }
  }
  return targets.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

function endpointsOf(
  slices: readonly EndpointSlice[],
  portName: string,
  onlyNode: string | undefined,
): { ip: string; port: number }[] {
  const found = new Map<string, { ip: string; port: number }>();
  for (const slice of slices) {
    const port = slice.ports?.find(({ name }) => (name ?? '') === portName)?.port;
    if (port === undefined) continue;
    for (const { addresses, conditions, nodeName } of slice.endpoints ?? []) {
      const [ip] = addresses; // all addresses of one endpoint are the same backend
      if (ip === undefined || !isIPv4(ip) || conditions?.ready === false) continue;
      if (onlyNode !== undefined && nodeName !== onlyNode) continue;
      found.set(`${ip}:${port}`, { ip, port });
    }
  }
  return [...found.values()].sort((a, b) => (a.ip === b.ip ? a.port - b.port : a.ip < b.ip ? -1 : 1));
}

function chainName(prefix: string, text: string): string {
  return `${prefix}-${createHash('sha256').update(text).digest('hex').slice(0, 12)}`;
}

/** Input of `nft -f -`. `nodeIp` is the source of what a pod sends to itself through a service. */
export function renderServiceTable(targets: readonly ServiceTarget[], nodeIp: string): string {
  const endpointChains = new Map<string, string>();
  const serviceChains: string[] = [];
  const elements: string[] = [];
  const pairs = new Set<string>();
  for (const { name, address, protocol, port, endpoints } of targets) {
    if (endpoints.length === 0) continue; // refused in `filter`, as any unknown service address
    const chain = chainName('svc', `${name} ${address} ${protocol} ${port}`);
    const verdicts = endpoints.map(({ ip, port: to }, index) => {
      const endpoint = `${protocol} ${ip}:${to}`;
      const endpointChain = chainName('ep', endpoint);
      endpointChains.set(
        endpointChain,
        `  chain ${endpointChain} {\n    meta l4proto ${protocol} dnat to ${ip}:${to}\n  }`,
      );
      pairs.add(`${ip} . ${ip}`);
      return `${index} : goto ${endpointChain}`;
    });
    serviceChains.push(
      `  chain ${chain} {\n    comment "${name}"\n    numgen random mod ${endpoints.length} vmap { ${verdicts.join(', ')} }\n  }`,
    );
    elements.push(`${address} . ${protocol} . ${port} : goto ${chain}`);
  }
  const dispatch = 'ip daddr . meta l4proto . th dport vmap @services';
  const refuse = `    ip daddr ${SERVICE_CIDR} meta l4proto tcp reject with tcp reset
    ip daddr ${SERVICE_CIDR} reject with icmp type port-unreachable`;
  return `table ip ${SERVICE_TABLE}
delete table ip ${SERVICE_TABLE}
table ip ${SERVICE_TABLE} {
${[...endpointChains.values(), ...serviceChains].join('\n')}
  map services {
    type ipv4_addr . inet_proto . inet_service : verdict
${elementsLine(elements)}  }
  set hairpin {
    type ipv4_addr . ipv4_addr
${elementsLine([...pairs])}  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    ${dispatch}
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ${dispatch}
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ct status dnat ip saddr . ip daddr @hairpin snat to ${nodeIp}
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
${refuse}
  }
  chain filter-output {
    type filter hook output priority 0; policy accept;
${refuse}
  }
}
`;
}

function elementsLine(elements: readonly string[]): string {
  return elements.length === 0 ? '' : `    elements = { ${elements.join(', ')} }\n`;
}
