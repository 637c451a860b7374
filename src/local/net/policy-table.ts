// NetworkPolicies of one node's pods as an nft table (pure), written whole. It looks at what the node forwards: what the node
// itself sends to its pods (probes) and receives from them always passes, as in any cluster.

import { createHash } from 'node:crypto';
import type { Allow, Isolation } from './policy-rules.ts';
import { ipv4Text, type Range, union } from './ranges.ts';

export const POLICY_TABLE = 'culvert-netpol';

export interface IsolatedPod extends Isolation {
  /** For people: `shop/web-1`. */
  readonly name: string;
  readonly ip: string;
}

/** After the services' rules: addresses are pods' addresses by then. */
const PRIORITY = 10;

/** Input of `nft -f -`; replaces whatever the table held. */
export function policyTable(pods: readonly IsolatedPod[]): string {
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
      `ip ${peer} ${ip} return`, // through a service of its own
      ...allows.flatMap((allow) => rulesOf(peer, allow)),
      'drop',
    ];
    chains.push(`  chain ${chain} {\n${rules.map((rule) => `    ${rule}\n`).join('')}  }`);
    ways[direction].push(`${ip} : jump ${chain}`);
  };
  for (const pod of pods) {
    add('out', pod, pod.egress);
    add('in', pod, pod.ingress);
  }
  const fresh = `table ip ${POLICY_TABLE}\ndelete table ip ${POLICY_TABLE}\n`;
  if (chains.length === 0) return fresh;
  return `${fresh}table ip ${POLICY_TABLE} {
${chains.join('\n')}
${map('egress', ways.out)}
${map('ingress', ways.in)}
  chain forward {
    type filter hook forward priority ${PRIORITY}; policy accept;
    ct state established,related accept
    ip saddr vmap @egress
    ip daddr vmap @ingress
  }
}
`;
}

function map(name: string, elements: readonly string[]): string {
  const line = elements.length === 0 ? '' : `    elements = { ${elements.join(', ')} }\n`;
  return `  map ${name} {\n    type ipv4_addr : verdict\n${line}  }`;
}

function rulesOf(peer: 'saddr' | 'daddr', { peers, ports }: Allow): string[] {
  const from =
    peers === 'any' ? '' : `ip ${peer} { ${peers.map((range) => interval(range, ipv4Text)).join(', ')} } `;
  if (ports === 'any') return [`${from}return`];
  return (['tcp', 'udp', 'sctp'] as const).flatMap((protocol) => {
    const own = union(ports.filter((port) => port.protocol === protocol));
    if (own.length === 0) return [];
    return [`${from}${protocol} dport { ${own.map((range) => interval(range, String)).join(', ')} } return`];
  });
}

const interval = ({ first, last }: Range, text: (value: number) => string): string =>
  first === last ? text(first) : `${text(first)}-${text(last)}`;
