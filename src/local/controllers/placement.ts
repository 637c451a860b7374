// Where a pod should run, given all nodes and all pods (pure). First what forbids a node, each reason in the words of the
// field; then, among what is left: what the pod prefers, its siblings apart, the emptier node, the name. CPU and memory are
// not weighed: no limit is enforced here.

import type { Node, Pod } from '#k8s/objects.ts';
import type { Labels } from '#k8s/selectors.ts';
import { matchesNodeSelection, nodePreference } from './node-affinity.ts';
import { controllerOf } from './ownership.ts';
import { podAffinityRefusal, podPreference, type Surroundings, spreadSkew } from './pod-affinity.ts';
import { isNodeReady, isPodActive, isPodFinished } from './pods.ts';
import { type Taint, type Toleration, UNSCHEDULABLE_TAINT, untoleratedTaint } from './tolerations.ts';

export type Placement =
  | { readonly kind: 'node'; readonly node: string }
  | { readonly kind: 'none'; readonly reason: string };

type Refusal = (node: Node) => string | undefined;

export function placePod(
  pod: Pod,
  nodes: readonly Node[],
  pods: readonly Pod[],
  namespaces: ReadonlyMap<string, Labels> = new Map(),
): Placement {
  const placed = pods.filter((other) => (other.spec.nodeName ?? '') !== '' && !isPodFinished(other));
  const around: Surroundings = { nodes, placed, namespaces };
  const refusals: readonly Refusal[] = [
    (node) => nodeRefusal(pod, node),
    fullness(placed),
    portConflict(pod, placed),
    podAffinityRefusal(pod, around),
    ...spreadRefusals(pod, around),
  ];
  const counts = new Map<string, number>();
  const fitting = nodes.filter((node) => {
    for (const refuse of refusals) {
      const reason = refuse(node);
      if (reason === undefined) continue;
      counts.set(reason, (counts.get(reason) ?? 0) + 1);
      return false;
    }
    return true;
  });
  if (fitting.length === 0) {
    const reasons = [...counts].map(([reason, count]) => `${count} ${reason}`);
    const detail = nodes.length === 0 ? 'there is no node' : reasons.join(', ');
    return { kind: 'none', reason: `0/${nodes.length} nodes are available: ${detail}.` };
  }
  return { kind: 'node', node: best(pod, fitting, around).metadata.name };
}

function nodeRefusal(pod: Pod, node: Node): string | undefined {
  const tolerations = (pod.spec.tolerations ?? []) as Toleration[];
  if (node.metadata.deletionTimestamp !== undefined || !isNodeReady(node)) return 'node(s) were not ready';
  const cordon: Taint = { key: UNSCHEDULABLE_TAINT, effect: 'NoSchedule' };
  if (
    node.spec?.unschedulable === true &&
    untoleratedTaint([cordon], tolerations, ['NoSchedule']) !== undefined
  )
    return 'node(s) were unschedulable';
  if (!matchesNodeSelection(pod.spec, node)) return "node(s) didn't match Pod's node affinity/selector";
  const taints = (node.spec?.taints ?? []) as Taint[];
  const taint = untoleratedTaint(taints, tolerations, ['NoSchedule', 'NoExecute']);
  if (taint !== undefined) return `node(s) had untolerated taint {${taint.key}: ${taint.value ?? ''}}`;
  return undefined;
}

/** What a node says it can hold; pods of the emulated nodes also have no more addresses than that. */
function fullness(placed: readonly Pod[]): Refusal {
  const perNode = new Map<string, number>();
  for (const { spec } of placed)
    perNode.set(spec.nodeName as string, (perNode.get(spec.nodeName as string) ?? 0) + 1);
  return ({ metadata, status }) => {
    const room = Number(status?.allocatable?.pods ?? Number.POSITIVE_INFINITY);
    return (perNode.get(metadata.name) ?? 0) >= room ? 'Too many pods' : undefined;
  };
}

/** Ports of the node itself: hostPort, and every port of a pod in the node's own network. */
function hostPorts({ spec }: Pod): string[] {
  return spec.containers.flatMap(({ ports = [] }) =>
    ports.flatMap(({ hostPort, containerPort, protocol = 'TCP' }) => {
      const port = hostPort ?? (spec.hostNetwork === true ? containerPort : undefined);
      return port === undefined || port === 0 ? [] : [`${port}/${protocol}`];
    }),
  );
}

function portConflict(pod: Pod, placed: readonly Pod[]): Refusal {
  const wanted = hostPorts(pod);
  if (wanted.length === 0) return () => undefined;
  const busy = new Set(
    placed
      .filter((other) => hostPorts(other).some((port) => wanted.includes(port)))
      .map(({ spec }) => spec.nodeName),
  );
  return ({ metadata }) =>
    busy.has(metadata.name) ? "node(s) didn't have free ports for the requested pod ports" : undefined;
}

function spreadRefusals(pod: Pod, around: Surroundings): Refusal[] {
  return (pod.spec.topologySpreadConstraints ?? [])
    .filter(({ whenUnsatisfiable }) => whenUnsatisfiable === 'DoNotSchedule')
    .map((constraint) => {
      const skewOf = spreadSkew(pod, constraint, around);
      return (node) => {
        const skew = skewOf(node);
        if (skew === undefined)
          return "node(s) didn't match pod topology spread constraints (missing required label)";
        return skew > constraint.maxSkew ? "node(s) didn't match pod topology spread constraints" : undefined;
      };
    });
}

function best(pod: Pod, fitting: readonly Node[], around: Surroundings): Node {
  const owner = controllerOf(pod)?.uid;
  const podScore = podPreference(pod, around);
  const skews = (pod.spec.topologySpreadConstraints ?? [])
    .filter(({ whenUnsatisfiable }) => whenUnsatisfiable === 'ScheduleAnyway')
    .map((constraint) => spreadSkew(pod, constraint, around));
  const tolerations = (pod.spec.tolerations ?? []) as Toleration[];
  const avoided = (node: Node): number =>
    ((node.spec?.taints ?? []) as Taint[]).filter(
      (taint) => untoleratedTaint([taint], tolerations, ['PreferNoSchedule']) !== undefined,
    ).length;
  const rank = (node: Node): readonly number[] => {
    const here = around.placed.filter(({ spec }) => spec.nodeName === node.metadata.name);
    // One that is leaving makes room for its successor.
    const siblings = here.filter(
      (other) => owner !== undefined && controllerOf(other)?.uid === owner && isPodActive(other),
    );
    return [
      avoided(node),
      -(nodePreference(pod.spec, node) + podScore(node)),
      skews.reduce((sum, skewOf) => sum + (skewOf(node) ?? Number.MAX_SAFE_INTEGER), 0),
      siblings.length,
      here.length,
    ];
  };
  const ranked = fitting.map((node) => ({ node, ranks: rank(node) }));
  ranked.sort((a, b) => {
    for (const [i, rankOfA] of a.ranks.entries()) {
      const difference = rankOfA - (b.ranks[i] as number);
      if (difference !== 0) return difference;
    }
    return a.node.metadata.name < b.node.metadata.name ? -1 : 1;
  });
  return (ranked[0] as { node: Node }).node;
}
