// resolv.conf of a pod (pure): cluster names first, as Kubernetes writes it, and what the pod itself wants of it.

import type { Pod } from '#k8s/objects.ts';
import { CLUSTER_DOMAIN } from '#local/machine/plan.ts';

/** What resolvers read at most; more would be cut there without a word. */
const MAX_NAMESERVERS = 3;

/**
 * `dnsPolicy: None` leaves everything to dnsConfig; `Default` means the node's own, which knows no names here. As in any cluster,
 * a pod of the node's network that says `ClusterFirst` gets the node's: it has to say `ClusterFirstWithHostNet`.
 */
export function resolvConf({ metadata, spec }: Pod, clusterDns: string): string {
  const { dnsPolicy = 'ClusterFirst', dnsConfig = {} } = spec;
  const usesCluster =
    dnsPolicy === 'ClusterFirstWithHostNet' || (dnsPolicy === 'ClusterFirst' && spec.hostNetwork !== true);
  const namespace = metadata.namespace ?? 'default';
  const nameservers = unique([...(usesCluster ? [clusterDns] : []), ...(dnsConfig.nameservers ?? [])]);
  const searches = unique([
    ...(usesCluster ? [`${namespace}.svc.${CLUSTER_DOMAIN}`, `svc.${CLUSTER_DOMAIN}`, CLUSTER_DOMAIN] : []),
    ...(dnsConfig.searches ?? []),
  ]);
  const options = new Map<string, string | undefined>(usesCluster ? [['ndots', '5']] : []);
  for (const { name, value } of dnsConfig.options ?? []) options.set(name, value);
  return [
    ...(searches.length === 0 ? [] : [`search ${searches.join(' ')}`]),
    ...nameservers.slice(0, MAX_NAMESERVERS).map((address) => `nameserver ${address}`),
    ...(options.size === 0
      ? []
      : [
          `options ${[...options].map(([name, value]) => (value === undefined || value === '' ? name : `${name}:${value}`)).join(' ')}`,
        ]),
    '',
  ].join('\n');
}

const unique = <T>(items: readonly T[]): T[] => [...new Set(items)];
