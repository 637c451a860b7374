// The address plan of local mode. One place, because rules, certificates, DNS and documentation all quote it.

import { type IpAddress, ip } from '#net/ip.ts';

export interface NodePlan {
  readonly name: string;
  /** Gives the node its addresses; 1 to HIGHEST_NODE_INDEX. */
  readonly index: number;
  /** Of eth0 on the bridge `uplink`; also what pods see as their gateway. */
  readonly address: IpAddress;
  /** First three bytes of the pods' addresses: `10.244.1`. */
  readonly podPrefix: string;
  readonly zone: string;
  /** In a cluster with two families. */
  readonly v6?: NodePlanV6;
}

export interface NodePlanV6 {
  readonly address: IpAddress;
  /** First 64 bits of the pods' addresses: `fd00:10:244:1`. */
  readonly podPrefix: string;
}

/** What pods, nodes and services have addresses of. */
export type ClusterFamily = 'ipv4' | 'dual';

export const MACHINE_ADDRESS = ip('172.31.0.1');
export const NODE_PREFIX_LENGTH = 24;
/**
 * Of the nodes' IPv6 network. All IPv6 ranges are unique local ones (RFC 4193) that spell the IPv4 plan, digit by digit, so
 * that people recognize what they see; nothing of them leaves the machine.
 */
export const MACHINE_ADDRESS_V6 = ip('fd00:172:31::1');
export const NODE_PREFIX_LENGTH_V6 = 64;
export const CLUSTER_DOMAIN = 'cluster.local';
export const API_SERVICE_ADDRESS = ip('10.96.0.1');
export const DNS_SERVICE_ADDRESS = ip('10.96.0.10');
/** Inside the machine, whatever port the host side has. */
export const API_PORT = 16_443;
export const SERVICE_CIDR = '10.96.0.0/16';
export const SERVICE_CIDR_V6 = 'fd00:10:96::/112';
/** Of all nodes together. */
export const POD_CIDR = '10.244.0.0/16';
export const POD_CIDR_V6 = 'fd00:10:244::/48';
/** A pod's way out over IPv6: every pod's pair has it at its node's end, so it needs no neighbour discovery beyond the pair. */
export const POD_GATEWAY_V6 = ip('fe80::1');

export const DEFAULT_NODE_COUNT = 2;
/** Node addresses are 172.31.0.11 to .254. */
export const HIGHEST_NODE_INDEX = 244;

export function planNode(
  name: string,
  index: number,
  family: ClusterFamily,
  zone = defaultZone(index),
): NodePlan {
  return {
    name,
    index,
    address: ip(`172.31.0.${10 + index}`),
    podPrefix: `10.244.${index}`,
    zone,
    ...(family === 'dual'
      ? { v6: { address: ip(`fd00:172:31::${10 + index}`), podPrefix: `fd00:10:244:${index}` } }
      : {}),
  };
}

/** The first is the one that counts where only one can. */
export const nodeAddresses = ({ address, v6 }: NodePlan): readonly IpAddress[] =>
  v6 === undefined ? [address] : [address, v6.address];

/** Two zones in turn, so that whatever minds zones has a choice of nodes in each. */
function defaultZone(index: number): string {
  return index % 2 === 1 ? 'z1' : 'z2';
}

export function podCidrOf(node: NodePlan): string {
  return `${node.podPrefix}.0/24`;
}

export function podCidrV6Of({ podPrefix }: NodePlanV6): string {
  return `${podPrefix}::/64`;
}

/** The pod's second address: its IPv4 address says which. `10.244.3.7` → `fd00:10:244:3::7`. */
export function podAddressV6({ podPrefix }: NodePlanV6, podIp: IpAddress): IpAddress {
  return ip(`${podPrefix}::${podIp.split('.')[3]}`);
}

/** `10.244.3.0/24` → 3; undefined for a range that is no node's. */
export function indexOfPodCidr(cidr: string): number | undefined {
  const index = Number(/^10\.244\.(\d{1,3})\.0\/24$/.exec(cidr)?.[1] ?? 0);
  return index >= 1 && index <= HIGHEST_NODE_INDEX ? index : undefined;
}

/**
 * V8 flags of every program that runs in the machine. Without them each keeps the garbage of its start-up as heap: the whole
 * mesh takes 403 MiB instead of 300 (docs/decisions/0004-node-memory.md).
 */
export const NODE_FLAGS: readonly string[] = [
  '--max-semi-space-size=1',
  '--optimize-for-size',
  '--v8-pool-size=1',
];
