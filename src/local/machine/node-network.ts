// How nodes hang on the machine: one bridge between the nodes (as a switch would be), routes instead of bridges for pods.
// Pure: `ip -batch` texts. Routed pairs, because a bridge per node breaks ClusterIP between two pods of one node unless
// br_netfilter is loaded, which an ordinary user cannot do.

import {
  ADDRESSES,
  type ClusterFamily,
  type Family,
  familiesOf,
  type NodePlan,
  networkOfFamily,
} from './plan.ts';

export const BRIDGE = 'uplink';

export function machineBatch(cluster: ClusterFamily): string {
  return lines([
    'link set lo up',
    `link add ${BRIDGE} type bridge`,
    `link set ${BRIDGE} up`,
    ...familiesOf(cluster).map((family) => addAddress(ADDRESSES[family].machine, family, BRIDGE)),
  ]);
}

/** Without `nodad` an address could not be used for its first seconds: the kernel would look for a twin (RFC 4862 §5.4). */
const addAddress = (address: string, family: Family, device: string): string =>
  `addr add ${address}/${ADDRESSES[family].nodePrefixLength} dev ${device}${family === 'IPv6' ? ' nodad' : ''}`;

/** The machine's end of a node's cable. By index: names of nodes may be longer than an interface's may. */
export const cableName = (node: NodePlan): string => `node${node.index}`;

/** Run in the machine's namespace: the cable between the bridge and a node (`netns` as ip takes it), and the way to its pods. */
export function cableBatch(node: NodePlan, netns: string): string {
  return lines([
    `link add ${cableName(node)} type veth peer name eth0 netns ${netns}`,
    `link set ${cableName(node)} master ${BRIDGE} up`,
    ...podRoutes(node).map(({ cidr, via }) => `route replace ${cidr} via ${via} dev ${BRIDGE}`),
  ]);
}

/** Run in the node's namespace. */
export function nodeBatch(node: NodePlan): string {
  return lines([
    'link set lo up',
    'link set eth0 up',
    ...node.networks.flatMap(({ family, address, podCidr }) => [
      addAddress(address, family, 'eth0'),
      `route add default via ${ADDRESSES[family].machine}`,
      // An address of this node that no pod has: refuse it here rather than send it round through the machine.
      `route add unreachable ${podCidr} metric 4096`,
    ]),
  ]);
}

/** Run in a node's namespace: the ways to the pods of other nodes that came or went. */
export function peerBatch(added: readonly NodePlan[], removed: readonly NodePlan[]): string {
  return lines([
    ...removed.flatMap(podRoutes).map(({ cidr, via }) => `route del ${cidr} via ${via}`),
    ...added.flatMap(podRoutes).map(({ cidr, via }) => `route replace ${cidr} via ${via}`),
  ]);
}

/** The ways to a node's pods. */
function podRoutes({ networks }: NodePlan): { readonly cidr: string; readonly via: string }[] {
  return networks.map(({ podCidr, address }) => ({ cidr: podCidr, via: address }));
}

/** Kernel settings of a node's network namespace, as paths below /proc/sys/net. */
const NODE_SETTINGS: Readonly<Record<string, string>> = {
  'ipv4/ip_forward': '1',
  'ipv4/conf/all/rp_filter': '0',
  'ipv4/conf/default/rp_filter': '0',
  // Lets a redirect to 127.0.0.1 of locally made packets work, as kubelets set it.
  'ipv4/conf/all/route_localnet': '1',
  'core/somaxconn': '4096',
};

/** In a cluster with IPv6. */
const NODE_SETTINGS_V6: Readonly<Record<string, string>> = {
  'ipv6/conf/all/disable_ipv6': '0',
  'ipv6/conf/all/forwarding': '1',
  // Link-local addresses too are usable at once: neighbours of forwarded packets are looked for from them.
  'ipv6/conf/default/accept_dad': '0',
  'ipv6/conf/eth0/accept_dad': '0',
};

export const nodeSettings = (node: Pick<NodePlan, 'networks'>): Readonly<Record<string, string>> =>
  networkOfFamily(node, 'IPv6') === undefined ? NODE_SETTINGS : { ...NODE_SETTINGS, ...NODE_SETTINGS_V6 };

/** Of the machine's namespace. */
export const machineSettings = (cluster: ClusterFamily): Readonly<Record<string, string>> => ({
  'ipv4/ip_forward': '1',
  'ipv4/conf/all/rp_filter': '0',
  ...(familiesOf(cluster).includes('IPv6')
    ? {
        'ipv6/conf/all/disable_ipv6': '0',
        'ipv6/conf/all/forwarding': '1',
        'ipv6/conf/default/accept_dad': '0',
      }
    : {}),
});

function lines(commands: readonly string[]): string {
  return `${commands.join('\n')}\n`;
}
