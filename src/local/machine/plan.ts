// The address plan of local mode. One place, because rules, certificates, DNS and documentation all quote it.

import { type IpAddress, ip } from '#net/ip.ts';

export type Family = 'IPv4' | 'IPv6';

/** What pods, nodes and services have addresses of. */
export type ClusterFamily = 'ipv4' | 'dual' | 'ipv6';
export const CLUSTER_FAMILIES: readonly ClusterFamily[] = ['ipv4', 'dual', 'ipv6'];

const FAMILIES: Readonly<Record<ClusterFamily, readonly [Family, ...Family[]]>> = {
  ipv4: ['IPv4'],
  dual: ['IPv4', 'IPv6'],
  ipv6: ['IPv6'],
};
/** The first is the one that counts where only one can. */
export const familiesOf = (cluster: ClusterFamily): readonly [Family, ...Family[]] => FAMILIES[cluster];

export interface FamilyAddresses {
  /** Of the machine on the bridge `uplink`. */
  readonly machine: IpAddress;
  readonly nodePrefixLength: number;
  readonly apiService: IpAddress;
  readonly dnsService: IpAddress;
  readonly serviceCidr: string;
  /** Of all nodes together. */
  readonly podCidr: string;
  /** Where services answer on the host. */
  readonly host: IpAddress;
}

/**
 * The IPv6 ranges are unique local ones (RFC 4193) that spell the IPv4 plan, digit by digit, so that people recognize what they
 * see; nothing of them leaves the machine.
 */
export const ADDRESSES: Readonly<Record<Family, FamilyAddresses>> = {
  IPv4: {
    machine: ip('172.31.0.1'),
    nodePrefixLength: 24,
    apiService: ip('10.96.0.1'),
    dnsService: ip('10.96.0.10'),
    serviceCidr: '10.96.0.0/16',
    podCidr: '10.244.0.0/16',
    host: ip('127.0.0.1'),
  },
  IPv6: {
    machine: ip('fd00:172:31::1'),
    nodePrefixLength: 64,
    apiService: ip('fd00:10:96::1'),
    dnsService: ip('fd00:10:96::10'),
    serviceCidr: 'fd00:10:96::/112',
    podCidr: 'fd00:10:244::/48',
    host: ip('::1'),
  },
};

export const CLUSTER_DOMAIN = 'cluster.local';
/** Inside the machine, whatever port the host side has. */
export const API_PORT = 16_443;
/** A pod's way out over IPv6: every pod's pair has it at its node's end, so it needs no neighbour discovery beyond the pair. */
export const POD_GATEWAY_V6 = ip('fe80::1');

export interface NodePlan {
  readonly name: string;
  /** Gives the node its addresses; 1 to HIGHEST_NODE_INDEX. */
  readonly index: number;
  readonly zone: string;
  /** One of each family of the cluster, in its order. */
  readonly networks: readonly [NodeNetwork, ...NodeNetwork[]];
}

export interface NodeNetwork {
  readonly family: Family;
  /** Of eth0 on the bridge `uplink`; over IPv4 also what pods see as their gateway. */
  readonly address: IpAddress;
  /** Before the pod's number: `10.244.1.`, `fd00:10:244:1::`. */
  readonly podPrefix: string;
  /** Of the node's pods. */
  readonly podCidr: string;
}

export const DEFAULT_NODE_COUNT = 2;
/** Node addresses are 172.31.0.11 to .254. */
export const HIGHEST_NODE_INDEX = 244;

export function planNode(
  name: string,
  index: number,
  cluster: ClusterFamily,
  zone = defaultZone(index),
): NodePlan {
  const [first, ...others] = familiesOf(cluster);
  const network = (family: Family): NodeNetwork => networkOf(index, family);
  return { name, index, zone, networks: [network(first), ...others.map(network)] };
}

function networkOf(index: number, family: Family): NodeNetwork {
  return family === 'IPv4'
    ? {
        family,
        address: ip(`172.31.0.${10 + index}`),
        podPrefix: `10.244.${index}.`,
        podCidr: `10.244.${index}.0/24`,
      }
    : {
        family,
        address: ip(`fd00:172:31::${10 + index}`),
        podPrefix: `fd00:10:244:${index}::`,
        podCidr: `fd00:10:244:${index}::/64`,
      };
}

export const nodeAddresses = ({ networks }: NodePlan): readonly IpAddress[] =>
  networks.map(({ address }) => address);

export const networkOfFamily = (
  { networks }: Pick<NodePlan, 'networks'>,
  wanted: Family,
): NodeNetwork | undefined => networks.find(({ family }) => family === wanted);

/** Two zones in turn, so that whatever minds zones has a choice of nodes in each. */
function defaultZone(index: number): string {
  return index % 2 === 1 ? 'z1' : 'z2';
}

/** All addresses of a pod, one of each family: its first says which. `10.244.3.7` → `fd00:10:244:3::7`. */
export function podAddresses({ networks }: NodePlan, first: IpAddress): readonly IpAddress[] {
  const number = /[^.:]+$/.exec(first)?.[0] ?? '';
  return networks.map(({ podPrefix }) => ip(`${podPrefix}${number}`));
}

const POD_CIDR_OF_NODE: Readonly<Record<Family, RegExp>> = {
  IPv4: /^10\.244\.(\d{1,3})\.0\/24$/,
  IPv6: /^fd00:10:244:(\d{1,3})::\/64$/,
};

/** `10.244.3.0/24` → 3; undefined for a range that is no node's. */
export function indexOfPodCidr(cidr: string, family: Family): number | undefined {
  const index = Number(POD_CIDR_OF_NODE[family].exec(cidr)?.[1] ?? 0);
  return index >= 1 && index <= HIGHEST_NODE_INDEX ? index : undefined;
}

/**
 * V8 flags of every program, as in bin/culvert. Without them each keeps the garbage of its start-up as heap: the whole mesh
 * takes a third more (docs/decisions/0004-node-memory.md). Some collect when they have become quiet.
 */
export const NODE_FLAGS: readonly string[] = [
  '--max-semi-space-size=1',
  '--optimize-for-size',
  '--v8-pool-size=1',
  '--expose-gc',
];

const maglevAfter = (invocations: number): string => `--invocation-count-for-maglev=${invocations}`;

/** LOCAL's further flag: it optimizes late while it starts. */
export const LOCAL_FLAGS: readonly string[] = [maglevAfter(3000)];
/** From then on: V8's own value. */
export const SETTLED_FLAG = maglevAfter(400);
