// How nodes hang on the machine: one bridge between the nodes (as a switch would be), routes instead of bridges for pods.
// Pure: `ip -batch` texts. Routed pairs, because a bridge per node breaks ClusterIP between two pods of one node unless
// br_netfilter is loaded, which an ordinary user cannot do.

import {
  type ClusterFamily,
  MACHINE_ADDRESS,
  MACHINE_ADDRESS_V6,
  NODE_PREFIX_LENGTH,
  NODE_PREFIX_LENGTH_V6,
  type NodePlan,
  podCidrOf,
  podCidrV6Of,
} from './plan.ts';

export const BRIDGE = 'uplink';

export function machineBatch(family: ClusterFamily): string {
  return lines([
    'link set lo up',
    `link add ${BRIDGE} type bridge`,
    `addr add ${MACHINE_ADDRESS}/${NODE_PREFIX_LENGTH} dev ${BRIDGE}`,
    `link set ${BRIDGE} up`,
    // Without `nodad` an address could not be used for its first seconds: the kernel would look for a twin (RFC 4862 §5.4).
    ...(family === 'dual'
      ? [`addr add ${MACHINE_ADDRESS_V6}/${NODE_PREFIX_LENGTH_V6} dev ${BRIDGE} nodad`]
      : []),
  ]);
}

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
    `addr add ${node.address}/${NODE_PREFIX_LENGTH} dev eth0`,
    'link set eth0 up',
    `route add default via ${MACHINE_ADDRESS}`,
    // An address of this node that no pod has: refuse it here rather than send it round through the machine.
    `route add unreachable ${podCidrOf(node)} metric 4096`,
    ...(node.v6 === undefined
      ? []
      : [
          `addr add ${node.v6.address}/${NODE_PREFIX_LENGTH_V6} dev eth0 nodad`,
          `route add default via ${MACHINE_ADDRESS_V6}`,
          `route add unreachable ${podCidrV6Of(node.v6)} metric 4096`,
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
function podRoutes(node: NodePlan): { readonly cidr: string; readonly via: string }[] {
  const { v6 } = node;
  return [
    { cidr: podCidrOf(node), via: node.address },
    ...(v6 === undefined ? [] : [{ cidr: podCidrV6Of(v6), via: v6.address }]),
  ];
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

/** In a cluster with two families. */
const NODE_SETTINGS_V6: Readonly<Record<string, string>> = {
  'ipv6/conf/all/disable_ipv6': '0',
  'ipv6/conf/all/forwarding': '1',
  // Link-local addresses too are usable at once: neighbours of forwarded packets are looked for from them.
  'ipv6/conf/default/accept_dad': '0',
  'ipv6/conf/eth0/accept_dad': '0',
};

export const nodeSettings = ({ v6 }: Pick<NodePlan, 'v6'>): Readonly<Record<string, string>> =>
  v6 === undefined ? NODE_SETTINGS : { ...NODE_SETTINGS, ...NODE_SETTINGS_V6 };

/** Of the machine's namespace. */
export const machineSettings = (family: ClusterFamily): Readonly<Record<string, string>> => ({
  'ipv4/ip_forward': '1',
  'ipv4/conf/all/rp_filter': '0',
  ...(family === 'dual'
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
