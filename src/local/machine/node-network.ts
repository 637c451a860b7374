// How nodes hang on the machine: one bridge between the nodes (as a switch would be), routes instead of bridges for pods.
// Pure: `ip -batch` texts. Routed pairs, because a bridge per node breaks ClusterIP between two pods of one node unless
// br_netfilter is loaded, which an ordinary user cannot do.

import { MACHINE_ADDRESS, NODE_PREFIX_LENGTH, type NodePlan, podCidrOf } from './plan.ts';

export const BRIDGE = 'uplink';

export function machineBatch(): string {
  return lines([
    'link set lo up',
    `link add ${BRIDGE} type bridge`,
    `addr add ${MACHINE_ADDRESS}/${NODE_PREFIX_LENGTH} dev ${BRIDGE}`,
    `link set ${BRIDGE} up`,
  ]);
}

/** The machine's end of a node's cable. By index: names of nodes may be longer than an interface's may. */
export const cableName = (node: NodePlan): string => `node${node.index}`;

/** Run in the machine's namespace: the cable between the bridge and a node, and the way to its pods. */
export function cableBatch(node: NodePlan, keeperPid: number): string {
  return lines([
    `link add ${cableName(node)} type veth peer name eth0 netns ${keeperPid}`,
    `link set ${cableName(node)} master ${BRIDGE} up`,
    `route replace ${podCidrOf(node)} via ${node.address} dev ${BRIDGE}`,
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
  ]);
}

/** Run in a node's namespace: the ways to the pods of other nodes that came or went. */
export function peerBatch(added: readonly NodePlan[], removed: readonly NodePlan[]): string {
  return lines([
    ...removed.map((peer) => `route del ${podCidrOf(peer)} via ${peer.address}`),
    ...added.map((peer) => `route replace ${podCidrOf(peer)} via ${peer.address}`),
  ]);
}

/** Kernel settings of a node's network namespace, as paths below /proc/sys/net. */
export const NODE_SETTINGS: Readonly<Record<string, string>> = {
  'ipv4/ip_forward': '1',
  'ipv4/conf/all/rp_filter': '0',
  'ipv4/conf/default/rp_filter': '0',
  // Lets a redirect to 127.0.0.1 of locally made packets work, as kubelets set it.
  'ipv4/conf/all/route_localnet': '1',
  'core/somaxconn': '4096',
};

function lines(commands: readonly string[]): string {
  return `${commands.join('\n')}\n`;
}
