// Which controller a pod belongs to, by name: the owner heuristics of control-plane.md §2.4.

import type { Pod } from '#k8s/objects.ts';
import { LABEL, labelsOf } from './labels.ts';

export function workloadNameOf(pod: Pod): string {
  const labels = labelsOf(pod);
  return labels[LABEL.workloadName] || ownerName(pod) || pod.metadata.name;
}

function ownerName(pod: Pod): string | undefined {
  if (!pod.metadata.generateName) return undefined;
  const owner = pod.metadata.ownerReferences?.find((reference) => reference.controller === true);
  if (owner === undefined) return undefined;
  const labels = labelsOf(pod);
  switch (owner.kind) {
    case 'ReplicaSet':
      // A Deployment and an Argo Rollout both make ReplicaSets; the hash label tells which suffix is generated.
      return (
        withoutSuffix(owner.name, labels['pod-template-hash']) ??
        withoutSuffix(owner.name, labels['rollouts-pod-template-hash']) ??
        owner.name
      );
    case 'ReplicationController':
      return labels.deploymentconfig || owner.name;
    case 'Job':
      return /^(.+)-\d{8,10}$/.exec(owner.name)?.[1] ?? owner.name;
    default:
      return owner.name;
  }
}

function withoutSuffix(name: string, hash: string | undefined): string | undefined {
  if (!hash) return undefined;
  const suffix = `-${hash}`;
  return name.length > suffix.length && name.endsWith(suffix) ? name.slice(0, -suffix.length) : undefined;
}
