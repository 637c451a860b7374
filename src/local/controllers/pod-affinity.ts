// Pods that want to be near or far from other pods, and even spreading over topology domains (pure).

import type { Node, Pod } from '#k8s/objects.ts';
import type { PodAffinityTerm, TopologySpreadConstraint } from '#k8s/scheduling.ts';
import { type Labels, matchesSelector } from '#k8s/selectors.ts';
import { matchesNodeSelection } from './node-affinity.ts';

/** What there is when one pod is placed. */
export interface Surroundings {
  readonly nodes: readonly Node[];
  /** Pods with a node that have not finished. */
  readonly placed: readonly Pod[];
  /** Namespace → its labels. */
  readonly namespaces: ReadonlyMap<string, Labels>;
}

const domainOf = (node: Node | undefined, key: string): string | undefined => node?.metadata.labels?.[key];

function nodesByName(nodes: readonly Node[]): ReadonlyMap<string, Node> {
  return new Map(nodes.map((node) => [node.metadata.name, node]));
}

function termSelects(
  { labelSelector, namespaces = [], namespaceSelector }: PodAffinityTerm,
  owner: Pod,
  other: Pod,
  all: ReadonlyMap<string, Labels>,
): boolean {
  const namespace = other.metadata.namespace ?? '';
  const own = namespaces.length === 0 && namespaceSelector === undefined;
  const inside = own
    ? namespace === owner.metadata.namespace
    : namespaces.includes(namespace) || matchesSelector(namespaceSelector, all.get(namespace) ?? {});
  return inside && matchesSelector(labelSelector, other.metadata.labels);
}

/** Why the node is out of the question, in the words of the field; undefined when it is not. */
export function podAffinityRefusal(pod: Pod, around: Surroundings): (node: Node) => string | undefined {
  const { placed, namespaces } = around;
  const nodes = nodesByName(around.nodes);
  const nodeOf = (other: Pod): Node | undefined => nodes.get(other.spec.nodeName ?? '');
  const domainsWith = (term: PodAffinityTerm): Set<string> =>
    new Set(
      placed
        .filter((other) => termSelects(term, pod, other, namespaces))
        .flatMap((other) => domainOf(nodeOf(other), term.topologyKey) ?? []),
    );
  const required = (kind: 'podAffinity' | 'podAntiAffinity', of: Pod): PodAffinityTerm[] =>
    of.spec.affinity?.[kind]?.requiredDuringSchedulingIgnoredDuringExecution ?? [];

  const near = required('podAffinity', pod).map((term) => ({ term, domains: domainsWith(term) }));
  // The first pod of a group that wants to be together may go anywhere.
  const isFirst =
    near.every(({ domains }) => domains.size === 0) &&
    near.every(({ term }) => termSelects(term, pod, pod, namespaces));
  const far = required('podAntiAffinity', pod).map((term) => ({ term, domains: domainsWith(term) }));
  // Those that are there already keep their distance, too.
  const kept = placed.flatMap((other) =>
    required('podAntiAffinity', other)
      .filter((term) => termSelects(term, other, pod, namespaces))
      .map((term) => ({ term, domain: domainOf(nodeOf(other), term.topologyKey) })),
  );
  return (node) => {
    for (const { term, domains } of near) {
      const domain = domainOf(node, term.topologyKey);
      if (domain === undefined || (!domains.has(domain) && !isFirst))
        return "node(s) didn't match pod affinity rules";
    }
    for (const { term, domains } of far)
      if (domains.has(domainOf(node, term.topologyKey) ?? ''))
        return "node(s) didn't match pod anti-affinity rules";
    for (const { term, domain } of kept)
      if (domain !== undefined && domain === domainOf(node, term.topologyKey))
        return "node(s) didn't satisfy existing pods anti-affinity rules";
    return undefined;
  };
}

/** The weights of the preferred terms a node meets, those of anti-affinity taken off. */
export function podPreference(pod: Pod, around: Surroundings): (node: Node) => number {
  const { placed, namespaces } = around;
  const nodes = nodesByName(around.nodes);
  const scores: { readonly key: string; readonly domain: string; readonly weight: number }[] = [];
  for (const [kind, sign] of [
    ['podAffinity', 1],
    ['podAntiAffinity', -1],
  ] as const)
    for (const { weight, podAffinityTerm: term } of pod.spec.affinity?.[kind]
      ?.preferredDuringSchedulingIgnoredDuringExecution ?? [])
      for (const other of placed) {
        const domain = domainOf(nodes.get(other.spec.nodeName ?? ''), term.topologyKey);
        if (domain !== undefined && termSelects(term, pod, other, namespaces))
          scores.push({ key: term.topologyKey, domain, weight: sign * weight });
      }
  return (node) =>
    scores
      .filter(({ key, domain }) => domainOf(node, key) === domain)
      .reduce((sum, { weight }) => sum + weight, 0);
}

/**
 * The skew that each constraint would have with the pod on the node: how many more of its pods the node's domain would
 * hold than the domain that holds fewest. Undefined for a node without the constraint's label.
 */
export function spreadSkew(
  pod: Pod,
  constraint: TopologySpreadConstraint,
  { nodes, placed }: Surroundings,
): (node: Node) => number | undefined {
  const { topologyKey, labelSelector, minDomains = 1 } = constraint;
  const counts = new Map<string, number>();
  // Only nodes the pod might run on count as domains.
  for (const node of nodes)
    if (matchesNodeSelection(pod.spec, node)) {
      const domain = domainOf(node, topologyKey);
      if (domain !== undefined) counts.set(domain, 0);
    }
  const byName = nodesByName(nodes);
  for (const other of placed) {
    if (other.metadata.namespace !== pod.metadata.namespace || other.metadata.deletionTimestamp !== undefined)
      continue;
    if (!matchesSelector(labelSelector, other.metadata.labels)) continue;
    const domain = domainOf(byName.get(other.spec.nodeName ?? ''), topologyKey);
    const count = domain === undefined ? undefined : counts.get(domain);
    if (domain !== undefined && count !== undefined) counts.set(domain, count + 1);
  }
  const least = counts.size < minDomains ? 0 : Math.min(...counts.values());
  const self = matchesSelector(labelSelector, pod.metadata.labels) ? 1 : 0;
  return (node) => {
    const domain = domainOf(node, topologyKey);
    const count = domain === undefined ? undefined : counts.get(domain);
    return count === undefined ? undefined : count + self - least;
  };
}
