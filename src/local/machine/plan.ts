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
}

export const MACHINE_ADDRESS = ip('172.31.0.1');
export const NODE_PREFIX_LENGTH = 24;
export const CLUSTER_DOMAIN = 'cluster.local';
export const API_SERVICE_ADDRESS = ip('10.96.0.1');
export const DNS_SERVICE_ADDRESS = ip('10.96.0.10');
/** Inside the machine, whatever port the host side has. */
export const API_PORT = 16_443;
export const SERVICE_CIDR = '10.96.0.0/16';
/** Of all nodes together. */
export const POD_CIDR = '10.244.0.0/16';

export const DEFAULT_NODE_COUNT = 2;
/** Node addresses are 172.31.0.11 to .254. */
export const HIGHEST_NODE_INDEX = 244;

export function planNode(name: string, index: number, zone = defaultZone(index)): NodePlan {
  return { name, index, address: ip(`172.31.0.${10 + index}`), podPrefix: `10.244.${index}`, zone };
}

/** Two zones in turn, so that whatever minds zones has a choice of nodes in each. */
function defaultZone(index: number): string {
  return index % 2 === 1 ? 'z1' : 'z2';
}

export function podCidrOf(node: NodePlan): string {
  return `${node.podPrefix}.0/24`;
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
