// Services as one nft table per node (pure): the text that brings the table from what it holds to what it should hold, in
// one transaction. Rules and maps are written whole; the sets that remember clients (session affinity) stay.

import { createHash } from 'node:crypto';
import { ADDRESSES, type Family } from '#local/machine/plan.ts';
import type { Endpoint, ServiceTarget } from './service-targets.ts';

const SERVICE_TABLE = 'culvert-svc';

/** Outside the bits that the mesh marks its own packets with (0xfff). Lives within one packet's way through the node. */
const TAKE_NODE_ADDRESS = '0x4000';

/** What the table holds besides its fixed parts: chains and sets to take away when they are wanted no longer. */
export interface TableContent {
  readonly chains: readonly string[];
  readonly sets: readonly string[];
}

export const EMPTY_CONTENT: TableContent = { chains: [], sets: [] };

/** What the two families write differently. */
interface Words {
  readonly ip: 'ip' | 'ip6';
  readonly type: 'ipv4_addr' | 'ipv6_addr';
  readonly icmp: 'icmp' | 'icmpv6';
  readonly services: string;
  readonly pods: string;
  readonly destination: (endpoint: Endpoint) => string;
}
const WORDS: Readonly<Record<Family, Words>> = {
  IPv4: {
    ip: 'ip',
    type: 'ipv4_addr',
    icmp: 'icmp',
    services: ADDRESSES.IPv4.serviceCidr,
    pods: ADDRESSES.IPv4.podCidr,
    destination: ({ ip, port }) => `${ip}:${port}`,
  },
  IPv6: {
    ip: 'ip6',
    type: 'ipv6_addr',
    icmp: 'icmpv6',
    services: ADDRESSES.IPv6.serviceCidr,
    pods: ADDRESSES.IPv6.podCidr,
    destination: ({ ip, port }) => `[${ip}]:${port}`,
  },
};

export interface ServiceTable {
  readonly family: Family;
  readonly content: TableContent;
  /** The table as it shall be; the same text means nothing to do. */
  readonly body: string;
}

function digest(prefix: string, text: string): string {
  return `${prefix}-${createHash('sha256').update(text).digest('hex').slice(0, 12)}`;
}

/**
 * All addresses are of one family. `nodeIp` is the source of what a pod sends to itself through a service, and of what comes
 * from outside.
 */
export function serviceTable(
  targets: readonly ServiceTarget[],
  nodeIp: string,
  family: Family = 'IPv4',
): ServiceTable {
  const words = WORDS[family];
  const chains = new Map<string, string[]>();
  const sets = new Map<string, string>();
  const elements: string[] = [];
  const refused: string[] = [];
  const pairs = new Set<string>();

  const endpointChain = (target: ServiceTarget, { ip, port }: Endpoint): string => {
    const { protocol, affinityS } = target;
    const text = `${protocol} ${ip}:${port}`;
    const rules = [`meta l4proto ${protocol} dnat to ${words.destination({ ip, port })}`];
    // Without affinity services share the chain of an endpoint; with it every service remembers its own clients.
    const name = digest('ep', affinityS === undefined ? text : `${text} ${clientSet(target, { ip, port })}`);
    if (affinityS !== undefined) {
      const set = clientSet(target, { ip, port });
      sets.set(set, `type ${words.type}\n    flags dynamic,timeout\n    timeout ${affinityS}s`);
      rules.unshift(`update @${set} { ${words.ip} saddr }`);
    }
    chains.set(name, rules);
    pairs.add(`${ip} . ${ip}`);
    return name;
  };
  const spread = (purpose: string, target: ServiceTarget, endpoints: readonly Endpoint[]): string => {
    const { name, protocol, port } = target;
    const chain = digest(purpose, `${name} ${target.address} ${protocol} ${port}`);
    const ways = endpoints.map((endpoint) => endpointChain(target, endpoint));
    const remembered =
      target.affinityS === undefined
        ? []
        : ways.map(
            (way, index) =>
              `${words.ip} saddr @${clientSet(target, endpoints[index] as Endpoint)} goto ${way}`,
          );
    chains.set(chain, [
      `comment "${name}"`,
      ...remembered,
      `numgen random mod ${ways.length} vmap { ${ways.map((way, index) => `${index} : goto ${way}`).join(', ')} }`,
    ]);
    return chain;
  };

  for (const target of targets) {
    const { protocol, external } = target;
    // A service without endpoints is refused in `filter`, as any unknown service address.
    if (target.endpoints.length > 0)
      elements.push(
        `${target.address} . ${protocol} . ${target.port} : goto ${spread('svc', target, target.endpoints)}`,
      );
    if (external === undefined) continue;
    const { addresses, endpoints, local } = external;
    if (endpoints.length === 0) {
      for (const { ip, port } of addresses) if (ip !== nodeIp) refused.push(`${ip} . ${protocol} . ${port}`);
      continue;
    }
    const everywhere = spread('all', target, endpoints);
    const chain = digest('ext', everywhere);
    // An endpoint of another node would answer the client directly, past this node's memory of the connection: it must see
    // the node as its client. Endpoints of this node answer through it anyway.
    const rules = [`meta mark set meta mark or ${TAKE_NODE_ADDRESS}`, `goto ${everywhere}`];
    if (local !== undefined) {
      rules.unshift(
        `${words.ip} saddr != ${words.pods} ${words.ip} saddr != ${nodeIp} goto ${digest('own', everywhere)}`,
      );
      // With no endpoint here the chain is empty: the connection is refused by the node itself, where nobody listens.
      chains.set(
        digest('own', everywhere),
        local.length === 0 ? [] : [`goto ${spread('loc', target, local)}`],
      );
    }
    chains.set(chain, rules);
    for (const { ip, port } of addresses) elements.push(`${ip} . ${protocol} . ${port} : goto ${chain}`);
  }

  const dispatch = `${words.ip} daddr . meta l4proto . th dport vmap @services`;
  const isRefused = `${words.ip} daddr . meta l4proto . th dport @refused`;
  const refuse = [
    `${words.ip} daddr ${words.services} meta l4proto tcp reject with tcp reset`,
    `${words.ip} daddr ${words.services} reject with ${words.icmp} type port-unreachable`,
    `${isRefused} meta l4proto tcp reject with tcp reset`,
    `${isRefused} reject with ${words.icmp} type port-unreachable`,
  ];
  const parts = [
    ...[...sets].map(([name, text]) => `  set ${name} {\n    ${text}\n  }`),
    ...[...chains].map(([name, rules]) => block(`chain ${name}`, rules)),
    block('map services', [
      `type ${words.type} . inet_proto . inet_service : verdict`,
      ...elementsOf(elements),
    ]),
    block('set refused', [`type ${words.type} . inet_proto . inet_service`, ...elementsOf(refused)]),
    block('set hairpin', [`type ${words.type} . ${words.type}`, ...elementsOf([...pairs])]),
    block('chain prerouting', ['type nat hook prerouting priority -100; policy accept;', dispatch]),
    block('chain output', ['type nat hook output priority -100; policy accept;', dispatch]),
    block('chain postrouting', [
      'type nat hook postrouting priority 100; policy accept;',
      `ct status dnat ${words.ip} saddr . ${words.ip} daddr @hairpin snat to ${nodeIp}`,
      `meta mark & ${TAKE_NODE_ADDRESS} != 0 meta mark set meta mark xor ${TAKE_NODE_ADDRESS} snat to ${nodeIp}`,
    ]),
    block('chain forward', ['type filter hook forward priority 0; policy accept;', ...refuse]),
    block('chain filter-output', ['type filter hook output priority 0; policy accept;', ...refuse]),
  ];
  return {
    family,
    content: { chains: [...chains.keys()], sets: [...sets.keys()] },
    body: `table ${tableName(family)} {\n${parts.join('\n')}\n}\n`,
  };
}

/** Family and name, as nft says them. */
export const tableName = (family: Family): string => `${WORDS[family].ip} ${SERVICE_TABLE}`;

/** Input of `nft -f -`; `held` is what the kernel's table holds now. */
export function serviceTransaction(table: ServiceTable, held: TableContent): string {
  const name = tableName(table.family);
  const { type } = WORDS[table.family];
  const gone = (kind: 'chain' | 'set', before: readonly string[], after: readonly string[]): string[] => {
    const wanted = new Set(after);
    return before.filter((each) => !wanted.has(each)).map((each) => `delete ${kind} ${name} ${each}`);
  };
  return [
    // Made if they are not there, so that they can be emptied.
    `table ${name} {`,
    `  map services { type ${type} . inet_proto . inet_service : verdict; }`,
    `  set refused { type ${type} . inet_proto . inet_service; }`,
    `  set hairpin { type ${type} . ${type}; }`,
    '}',
    `flush table ${name}`, // the rules only
    `flush map ${name} services`,
    `flush set ${name} refused`,
    `flush set ${name} hairpin`,
    ...gone('chain', held.chains, table.content.chains),
    ...gone('set', held.sets, table.content.sets),
    table.body,
  ].join('\n');
}

const VARIABLE_CHAIN = /^(svc|ep|ext|all|own|loc)-/;
const CLIENT_SET = /^aff-/;

/** From `nft --terse --json list table`. @throws TypeError for anything else. */
export function contentOf(json: string): TableContent {
  const { nftables } = JSON.parse(json) as {
    nftables: { chain?: { name: string }; set?: { name: string } }[];
  };
  return {
    chains: nftables.flatMap(({ chain }) =>
      chain !== undefined && VARIABLE_CHAIN.test(chain.name) ? [chain.name] : [],
    ),
    sets: nftables.flatMap(({ set }) => (set !== undefined && CLIENT_SET.test(set.name) ? [set.name] : [])),
  };
}

/** Another time-out is another set: the kernel does not change one in place. */
function clientSet({ name, protocol, affinityS }: ServiceTarget, { ip, port }: Endpoint): string {
  return digest('aff', `${name} ${protocol} ${ip}:${port} ${affinityS}`);
}

function block(head: string, lines: readonly string[]): string {
  return `  ${head} {\n${lines.map((line) => `    ${line}\n`).join('')}  }`;
}

function elementsOf(elements: readonly string[]): string[] {
  return elements.length === 0 ? [] : [`elements = { ${elements.join(', ')} }`];
}
