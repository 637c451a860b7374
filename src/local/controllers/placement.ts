// Where a pod should run, given all nodes and all pods (pure). First what forbids a node, each reason in the words of the
// field; then, among what is left: what the pod prefers, its siblings apart, the node with more room, the emptier node, the name.

import type { Node, Pod } from '#k8s/objects.ts';
import type { Labels } from '#k8s/selectors.ts';
import { matchesNodeSelection, nodePreference } from './node-affinity.ts';
import { controllerOf } from './ownership.ts';
import { podAffinityRefusal, podPreference, type Surroundings, spreadSkew } from './pod-affinity.ts';
import { isNodeReady, isPodActive, isPodFinished } from './pods.ts';
import { type Room, roomFor } from './resource-fit.ts';
import { type Taint, type Toleration, UNSCHEDULABLE_TAINT, untoleratedTaint } from './tolerations.ts';

export type Placement =
  | { readonly kind: 'node'; readonly node: string }
  | { readonly kind: 'none'; readonly reason: string };

/** The reasons against a node; none: it will do. */
type Refusal = (node: Node) => string | readonly string[] | undefined;

export function placePod(
  pod: Pod,
  nodes: readonly Node[],
  pods: readonly Pod[],
  namespaces: ReadonlyMap<string, Labels> = new Map(),
  /** What its volumes have against a node. */
  volumeRefusal: Refusal = () => undefined,
): Placement {
  const placed = pods.filter((other) => (other.spec.nodeName ?? '') !== '' && !isPodFinished(other));
  const around: Surroundings = { nodes, placed, namespaces };
  const room = roomFor(pod, placed);
  const refusals: readonly Refusal[] = [
    (node) => nodeRefusal(pod, node),
    portConflict(pod, placed),
    room.lacks,
    volumeRefusal,
    podAffinityRefusal(pod, around),
    ...spreadRefusals(pod, around),
  ];
  const counts = new Map<string, number>();
  const fitting = nodes.filter((node) => {
    for (const refuse of refusals) {
      const reasons = [refuse(node) ?? []].flat();
      if (reasons.length === 0) continue;
      for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
      return false;
    }
    return true;
  });
  if (fitting.length === 0) {
    const reasons = [...counts].map(([reason, count]) => `${count} ${reason}`).sort();
    const detail = nodes.length === 0 ? 'there is no node' : reasons.join(', ');
    return { kind: 'none', reason: `0/${nodes.length} nodes are available: ${detail}.` };
  }
  return { kind: 'node', node: best(pod, fitting, around, room).metadata.name };
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

function best(pod: Pod, fitting: readonly Node[], around: Surroundings, room: Room): Node {
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
      room.loadWith(node),
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
