// The primary network of a pod: a namespace pinned at /run/netns/cni-UID of its node and a routed veth pair. Chained CNI
// plugins come after it (kubelet/cni.ts).

import { createHash } from 'node:crypto';
import type { EmulatedNode } from '#local/machine/node.ts';
import { quote } from '#local/machine/node-root.ts';
import { POD_GATEWAY_V6 } from '#local/machine/plan.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';

/** Inside the node's file system. */
export function podNetnsPath(podUid: string): string {
  return `/run/netns/cni-${podUid}`;
}

/** Interface names hold 15 characters. */
export function hostInterface(podUid: string): string {
  return `veth${createHash('sha256').update(podUid).digest('hex').slice(0, 10)}`;
}

export interface PodLink {
  readonly podUid: string;
  /** One of each family. */
  readonly addresses: readonly PodAddress[];
}

export interface PodAddress {
  readonly podIp: IpAddress;
  /** The node's own address: over IPv4 the pod's gateway, and the source of what the node itself sends to the pod. */
  readonly nodeIp: IpAddress;
}

const hasIpv6 = ({ addresses }: PodLink): boolean => addresses.some(({ podIp }) => familyOf(podIp) === 6);

/** `ip -batch` texts: in the node's namespace, then in the pod's. */
export function linkBatches({ podUid, addresses }: PodLink): { node: string; pod: string } {
  const host = hostInterface(podUid);
  const forEach = (v4: (of: PodAddress) => string[], v6: (of: PodAddress) => string[]): string[] =>
    addresses.flatMap((address) => (familyOf(address.podIp) === 4 ? v4 : v6)(address));
  return {
    node: [
      `link add ${host} type veth peer name eth0 netns cni-${podUid}`,
      `link set ${host} up`,
      ...forEach(
        ({ podIp, nodeIp }) => [`route add ${podIp}/32 dev ${host} src ${nodeIp}`],
        // Neighbour discovery answers for an interface's own addresses only: the node's is on another one, so the gateway is a
        // link-local address, the same on every pair.
        ({ podIp, nodeIp }) => [
          `addr add ${POD_GATEWAY_V6}/64 dev ${host} nodad`,
          `route add ${podIp}/128 dev ${host} src ${nodeIp}`,
        ],
      ),
    ].join('\n'),
    pod: [
      'link set lo up',
      'link set eth0 up',
      ...forEach(
        ({ podIp, nodeIp }) => [
          `addr add ${podIp}/32 dev eth0`,
          `route add ${nodeIp}/32 dev eth0 scope link`,
          `route add default via ${nodeIp} dev eth0`,
        ],
        ({ podIp }) => [
          `addr add ${podIp}/128 dev eth0 nodad`,
          `route add default via ${POD_GATEWAY_V6} dev eth0`,
        ],
      ),
    ].join('\n'),
  };
}

/** Some systems have IPv6 switched off in every new namespace (`ipv6.disable_ipv6=1`). */
const withIpv6 = (sh: string): string =>
  `${sh} -c 'echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; exec "$@"' sh `;

/** Leaves nothing behind when it fails. */
export async function addPodNetwork(node: EmulatedNode, link: PodLink): Promise<void> {
  const { sh, ip, nsenter, unshare } = node.tools;
  const pin = quote(podNetnsPath(link.podUid));
  const batches = linkBatches(link);
  // One shell for all of it: every process costs a millisecond or two, and pods start in bursts.
  const script = `set -e
: > ${pin}
${unshare} --net=${pin} true
${ip} -batch - <<'END'
${batches.node}
END
${nsenter} --net=${pin} ${hasIpv6(link) ? withIpv6(sh) : ''}${ip} -batch - <<'END'
${batches.pod}
END
`;
  try {
    await node.mustRun(sh, ['-c', script], { doing: `making the network of pod ${link.podUid}` });
  } catch (error) {
    await removePodNetwork(node, link.podUid);
    throw error;
  }
}

/** Does nothing when there is none. */
export async function removePodNetwork(node: EmulatedNode, podUid: string): Promise<void> {
  const { sh, ip, umount } = node.tools;
  const pin = quote(podNetnsPath(podUid));
  // The veth pair is deleted by name: the namespace itself lives on while any process or descriptor holds it.
  const script = `${ip} link del ${hostInterface(podUid)} 2>/dev/null
while ${umount} -n -l ${pin} 2>/dev/null; do :; done
rm -f ${pin}`;
  await node.mustRun(sh, ['-c', script], { doing: `removing the network of pod ${podUid}` });
}
