// `culvert cni check`: looks at a node before the mesh comes to it, and says what will break and what to do.

import { reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { createIptablesPodRules } from '../rules/iptables-pod-rules.ts';
import { chooseIptables } from '../rules/iptables-tool.ts';
import { nftPodRules } from '../rules/nft-pod-rules.ts';
import { checkPolicies } from './closed-tunnel.ts';
import { readCluster } from './cluster-facts.ts';
import type { Finding } from './finding.ts';
import { checkLists, checkSysctls, hasIpv6, type NodeDirs, readLists } from './node-facts.ts';
import { checkNetworks } from './other-networks.ts';
import { tryRedirection } from './trial.ts';

export interface CheckDeps {
  /** Undefined: no cluster is asked. */
  readonly client: Pick<KubeClient, 'get' | 'list'> | undefined;
  /** Told what is being done, where it takes time. */
  readonly say: (text: string) => void;
}

export interface CheckOptions extends NodeDirs {
  readonly runDir: string;
}

export async function checkNode({ client, say }: CheckDeps, options: CheckOptions): Promise<Finding[]> {
  say('trying the redirection in two throw-away namespaces …');
  const findings = await tryBackends(options);
  findings.push(...(await checkSysctls(options)));
  const lists = await readLists(options);
  findings.push(...checkLists(lists, options));
  if (client === undefined) {
    findings.push(...checkNetworks(lists, {}), {
      id: 'cluster-unread',
      level: 'unknown',
      what: 'no cluster was asked, so NetworkPolicies were not looked at',
      fix: 'run this with a kubeconfig: KUBECONFIG=… culvert cni check',
    });
    return findings;
  }
  say('asking the cluster …');
  const { settings, meshPods, policies } = await readCluster(client);
  findings.push(...checkNetworks(lists, settings));
  if (meshPods === undefined || policies === undefined)
    findings.push({
      id: 'policies-unread',
      level: 'unknown',
      what: 'pods, namespaces or NetworkPolicies could not be read, so nothing is known of closed ports',
      fix: 'use a kubeconfig that may list them',
    });
  else findings.push(...checkPolicies(meshPods, policies));
  return findings;
}

/** One tool that works is enough; the other one is then only mentioned. */
async function tryBackends(options: CheckOptions): Promise<Finding[]> {
  const ipv6 = await hasIpv6(options);
  const nft = await tryRedirection({ name: 'nftables', rules: nftPodRules, ipv6 });
  if (works(nft)) return nft;
  let iptables: Finding[];
  try {
    const tool = await chooseIptables({ runDir: options.runDir });
    const name = tool.kind === 'plain' ? 'iptables' : `iptables-${tool.kind}`;
    iptables = await tryRedirection({ name, rules: createIptablesPodRules(tool), ipv6 });
  } catch (error) {
    return [...nft, { id: 'iptables', level: 'unknown', what: reasonOf(error) }];
  }
  if (!works(iptables)) return [...nft, ...iptables];
  return [
    ...iptables,
    {
      id: 'nftables',
      level: 'trap',
      what: `nftables does not work here (${nft.find(({ level }) => level === 'broken')?.what ?? ''}), so iptables is used`,
    },
  ];
}

const works = (findings: readonly Finding[]): boolean =>
  findings.length > 0 && findings.every(({ level }) => level === 'ok' || level === 'trap');
