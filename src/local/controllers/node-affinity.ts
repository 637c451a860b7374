// Which nodes a pod's nodeSelector and node affinity allow and prefer (pure).

import type { Node, PodSpec } from '#k8s/objects.ts';
import type { NodeSelectorRequirement, NodeSelectorTerm } from '#k8s/scheduling.ts';
import { matchesLabels, matchesRequirements, type Requirement } from '#k8s/selectors.ts';
import type { PersistentVolume } from '#k8s/storage.ts';

/** nodeSelector and required node affinity; both must hold. */
export function matchesNodeSelection({ nodeSelector = {}, affinity }: PodSpec, node: Node): boolean {
  if (!matchesLabels(nodeSelector, node.metadata.labels)) return false;
  const required = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return required === undefined || required.nodeSelectorTerms.some((term) => matchesTerm(term, node));
}

/** The weights of the preferences that the node meets, summed. */
export function nodePreference({ affinity }: PodSpec, node: Node): number {
  const preferred = affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  return preferred
    .filter(({ preference }) => matchesTerm(preference, node))
    .reduce((sum, { weight }) => sum + weight, 0);
}

/** Where a volume can be reached from. */
export const reachesNode = ({ spec }: PersistentVolume, node: Pick<Node, 'metadata'>): boolean =>
  spec.nodeAffinity?.required?.nodeSelectorTerms.some((term) => matchesTerm(term, node)) ?? true;

/** A term without any requirement matches no node. */
function matchesTerm(
  { matchExpressions = [], matchFields = [] }: NodeSelectorTerm,
  node: Pick<Node, 'metadata'>,
): boolean {
  if (matchExpressions.length + matchFields.length === 0) return false;
  return (
    matchesRequirements(matchExpressions.map(requirement), node.metadata.labels) &&
    matchesRequirements(matchFields.map(requirement), { 'metadata.name': node.metadata.name })
  );
}

function requirement({ key, operator, values = [] }: NodeSelectorRequirement): Requirement {
  switch (operator) {
    case 'In':
    case 'NotIn':
      return { key, operator, values };
    case 'Gt':
    case 'Lt':
      // What is no number matches nothing.
      return /^-?\d+$/.test(values[0] ?? '')
        ? { key, operator, values: [values[0] as string] }
        : { key, operator: 'In', values: [] };
    default:
      return { key, operator };
  }
}
