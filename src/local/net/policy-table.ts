// NetworkPolicies of one node's pods as an nft table (pure), written whole. It looks at what the node forwards: what the node
// itself sends to its pods (probes) and receives from them always passes, as in any cluster.

import { createHash } from 'node:crypto';
import type { Allow, Isolation } from './policy-rules.ts';
import { addressText, type Range, union } from './ranges.ts';

export const POLICY_TABLE = 'culvert-netpol';

export interface IsolatedPod extends Isolation {
  /** For people: `shop/web-1`. */
  readonly name: string;
  readonly ip: string;
}

type Keyword = 'ip' | 'ip6';

/** After the services' rules: addresses are pods' addresses by then. */
const PRIORITY = 10;

/** Input of `nft -f -`; replaces whatever the tables held. A pod with two addresses stands in the list twice. */
export function policyTables(pods: readonly IsolatedPod[], families: readonly Keyword[]): string {
  return families
    .map((family) =>
      policyTable(
        pods.filter(({ ip }) => ip.includes(':') === (family === 'ip6')),
        family,
      ),
    )
    .join('');
}

function policyTable(pods: readonly IsolatedPod[], family: Keyword): string {
  const chains: string[] = [];
  const ways: Record<'in' | 'out', string[]> = { in: [], out: [] };
  const add = (
    direction: 'in' | 'out',
    { name, ip }: IsolatedPod,
    allows: readonly Allow[] | undefined,
  ): void => {
    if (allows === undefined) return;
    const chain = `${direction}-${createHash('sha256').update(`${name} ${ip}`).digest('hex').slice(0, 12)}`;
    const peer = direction === 'in' ? 'saddr' : 'daddr';
    const rules = [
      `comment "${name}"`,
      `${family} ${peer} ${ip} return`, // through a service of its own
      ...allows.flatMap((allow) => rulesOf(`${family} ${peer}`, allow)),
      'drop',
    ];
    chains.push(`  chain ${chain} {\n${rules.map((rule) => `    ${rule}\n`).join('')}  }`);
    ways[direction].push(`${ip} : jump ${chain}`);
  };
  for (const pod of pods) {
    add('out', pod, pod.egress);
    add('in', pod, pod.ingress);
  }
  const fresh = `table ${family} ${POLICY_TABLE}\ndelete table ${family} ${POLICY_TABLE}\n`;
  if (chains.length === 0) return fresh;
  return `${fresh}table ${family} ${POLICY_TABLE} {
${chains.join('\n')}
${map('egress', family, ways.out)}
${map('ingress', family, ways.in)}
  chain forward {
    type filter hook forward priority ${PRIORITY}; policy accept;
    ct state established,related accept
    ${family} saddr vmap @egress
    ${family} daddr vmap @ingress
  }
}
`;
}

function map(name: string, family: Keyword, elements: readonly string[]): string {
  const line = elements.length === 0 ? '' : `    elements = { ${elements.join(', ')} }\n`;
  return `  map ${name} {\n    type ${family === 'ip' ? 'ipv4_addr' : 'ipv6_addr'} : verdict\n${line}  }`;
}

/** `peer` is the other side's address, as nft says it. */
function rulesOf(peer: string, { peers, ports }: Allow): string[] {
  const from =
    peers === 'any' ? '' : `${peer} { ${peers.map((range) => interval(range, addressText)).join(', ')} } `;
  if (ports === 'any') return [`${from}return`];
  return (['tcp', 'udp', 'sctp'] as const).flatMap((protocol) => {
    const own = union(ports.filter((port) => port.protocol === protocol));
    if (own.length === 0) return [];
    return [`${from}${protocol} dport { ${own.map((range) => interval(range, String)).join(', ')} } return`];
  });
}

const interval = <N extends number | bigint>(
  { first, last }: Range<N>,
  text: (value: N) => string,
): string => (first === last ? text(first) : `${text(first)}-${text(last)}`);
