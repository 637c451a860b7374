// The address plan of local mode. One place, because rules, certificates, DNS and documentation all quote it.

import { type IpAddress, ip } from '#net/ip.ts';

export interface NodePlan {
  readonly name: string;
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

export const NODES: readonly NodePlan[] = [
  { name: 'n1', address: ip('172.31.0.11'), podPrefix: '10.244.1', zone: 'z1' },
  { name: 'n2', address: ip('172.31.0.12'), podPrefix: '10.244.2', zone: 'z2' },
];

export function podCidrOf(node: NodePlan): string {
  return `${node.podPrefix}.0/24`;
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
