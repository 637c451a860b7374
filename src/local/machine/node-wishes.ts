// What the Node objects of the API ask the machine for (pure). A Node is a wish: the machine makes an emulated node of it,
// and takes it away again when the object goes. Its addresses follow from an index that `spec.podCIDR` carries, so that it
// keeps them for life, also over restarts.

import type { Node } from '#k8s/objects.ts';
import {
  type ClusterFamily,
  familiesOf,
  HIGHEST_NODE_INDEX,
  indexOfPodCidr,
  type NodePlan,
  planNode,
} from './plan.ts';

/** On a Node: `off` is a node without power, as `culvert node kill` leaves it. */
export const POWER_ANNOTATION = 'culvert.local/power';
const ZONE_LABEL = 'topology.kubernetes.io/zone';

export type NodeWish =
  | { readonly kind: 'on' | 'off'; readonly plan: NodePlan }
  /** New: it is given its addresses first. */
  | { readonly kind: 'unplanned' }
  | { readonly kind: 'impossible'; readonly reason: string }
  | { readonly kind: 'absent' };

export function wishOf(node: Node | undefined, cluster: ClusterFamily): NodeWish {
  if (node === undefined || node.metadata.deletionTimestamp !== undefined) return { kind: 'absent' };
  const { podCIDR = '' } = node.spec ?? {};
  if (podCIDR === '') return { kind: 'unplanned' };
  const index = indexOfPodCidr(podCIDR, familiesOf(cluster)[0]);
  if (index === undefined) {
    const [lowest, highest] = [1, HIGHEST_NODE_INDEX].map(
      (each) => podCidrsOf(planNode('', each, cluster))[0],
    );
    return {
      kind: 'impossible',
      reason: `podCIDR ${podCIDR} is none of ${lowest} to ${highest}; make the node without one`,
    };
  }
  const plan = planNode(node.metadata.name, index, cluster, node.metadata.labels?.[ZONE_LABEL]);
  return { kind: node.metadata.annotations?.[POWER_ANNOTATION] === 'off' ? 'off' : 'on', plan };
}

/** `spec.podCIDRs`: the ranges its pods have addresses of. */
export const podCidrsOf = ({ networks }: NodePlan): string[] => networks.map(({ podCidr }) => podCidr);

/** The lowest index that no node has; `n3` is given 3 where that is free, so that names and addresses agree. */
export function freeIndex(name: string, taken: ReadonlySet<number>): number | undefined {
  const named = Number(/^n([1-9]\d{0,2})$/.exec(name)?.[1] ?? 0);
  if (named >= 1 && named <= HIGHEST_NODE_INDEX && !taken.has(named)) return named;
  for (let index = 1; index <= HIGHEST_NODE_INDEX; index++) if (!taken.has(index)) return index;
  return undefined;
}

/**
 * The nodes to make when the machine starts: all that were asked for by number, or the usual two in a cluster that has
 * none. A cluster that has some keeps them as they are.
 */
export function missingNodes(
  present: readonly string[],
  asked: number | undefined,
  usual: number,
): readonly string[] {
  const count = asked ?? (present.length === 0 ? usual : 0);
  return Array.from({ length: count }, (_, i) => `n${i + 1}`).filter((name) => !present.includes(name));
}
