// A Deployment's status as `kubectl rollout status` and `kubectl wait` read it. Pure.

import type { Deployment, ReplicaSet } from '#k8s/objects.ts';
import type { DeploymentSpec } from './deployments.ts';
import { resolveRollingUpdate } from './rollout.ts';
import {
  kubeTime,
  REPLICA_FAILURE,
  type StatusFields,
  type TimedCondition,
  withCondition,
} from './status.ts';

const PROGRESS_DEADLINE_SECONDS = 600;

interface Counts {
  readonly replicas: number;
  readonly updatedReplicas: number;
  readonly readyReplicas: number;
  readonly availableReplicas: number;
}

type OldStatus = Partial<Counts> & { readonly conditions?: readonly TimedCondition[] };

export interface DeploymentVerdict {
  readonly fields: StatusFields;
  /** When to look again although nothing has happened: the progress deadline. */
  readonly recheckInMs: number | undefined;
}

export function deploymentStatus(
  deployment: Deployment,
  current: ReplicaSet | undefined,
  old: readonly ReplicaSet[],
  nowMs: number,
): DeploymentVerdict {
  const spec = deployment.spec as DeploymentSpec;
  const before = (deployment.status ?? {}) as OldStatus;
  const desired = spec.replicas ?? 1;
  const all = current === undefined ? old : [...old, current];
  const total = (field: 'replicas' | 'readyReplicas' | 'availableReplicas'): number =>
    all.reduce((sum, set) => sum + (set.status?.[field] ?? 0), 0);
  const counts: Counts = {
    replicas: total('replicas'),
    updatedReplicas: current?.status?.replicas ?? 0,
    readyReplicas: total('readyReplicas'),
    availableReplicas: total('availableReplicas'),
  };
  const { maxUnavailable } =
    spec.strategy?.type === 'Recreate'
      ? { maxUnavailable: 0 }
      : resolveRollingUpdate(spec.strategy?.rollingUpdate, desired);
  const enough = counts.availableReplicas >= desired - maxUnavailable;
  const conditions = withCondition<TimedCondition>(
    before.conditions ?? [],
    availableCondition(enough, before, nowMs),
    nowMs,
  );
  const progress = progressing(deployment, current, counts, before, nowMs);
  return {
    fields: {
      observedGeneration: deployment.metadata.generation ?? 0,
      ...counts,
      unavailableReplicas: Math.max(0, desired - counts.availableReplicas),
      conditions: [
        ...withCondition(conditions, progress.condition, nowMs).filter(
          ({ type }) => type !== REPLICA_FAILURE,
        ),
        ...replicaFailure(current, old),
      ],
    },
    recheckInMs: progress.recheckInMs,
  };
}

/** That of the present template's set counts first. */
function replicaFailure(current: ReplicaSet | undefined, old: readonly ReplicaSet[]): TimedCondition[] {
  const failures = [...(current === undefined ? [] : [current]), ...old].flatMap(({ status }) =>
    (status?.conditions ?? []).filter(({ type }) => type === REPLICA_FAILURE),
  );
  return failures
    .slice(0, 1)
    .map((failure) => ({ ...failure, lastUpdateTime: failure.lastTransitionTime ?? '' }));
}

function availableCondition(enough: boolean, before: OldStatus, nowMs: number): TimedCondition {
  const status = enough ? 'True' : 'False';
  const old = before.conditions?.find(({ type }) => type === 'Available');
  return {
    type: 'Available',
    status,
    reason: enough ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable',
    message: enough
      ? 'Deployment has minimum availability.'
      : 'Deployment does not have minimum availability.',
    lastUpdateTime: old?.status === status ? (old.lastUpdateTime ?? kubeTime(nowMs)) : kubeTime(nowMs),
  };
}

function progressing(
  deployment: Deployment,
  current: ReplicaSet | undefined,
  counts: Counts,
  before: OldStatus,
  nowMs: number,
): { readonly condition: TimedCondition; readonly recheckInMs: number | undefined } {
  const spec = deployment.spec as DeploymentSpec;
  const desired = spec.replicas ?? 1;
  const old = before.conditions?.find(({ type }) => type === 'Progressing');
  const name = current === undefined ? '' : `ReplicaSet "${current.metadata.name}" `;
  const say = (
    status: 'True' | 'False' | 'Unknown',
    reason: string,
    message: string,
    fresh: boolean,
  ): TimedCondition => ({
    type: 'Progressing',
    status,
    reason,
    message,
    lastUpdateTime:
      fresh || old?.reason !== reason ? kubeTime(nowMs) : (old.lastUpdateTime ?? kubeTime(nowMs)),
  });
  if (spec.paused === true)
    return {
      condition: say('Unknown', 'DeploymentPaused', 'Deployment is paused', false),
      recheckInMs: undefined,
    };
  const complete =
    counts.updatedReplicas === desired && counts.replicas === desired && counts.availableReplicas >= desired;
  if (complete)
    return {
      condition: say('True', 'NewReplicaSetAvailable', `${name}has successfully progressed.`, false),
      recheckInMs: undefined,
    };
  // A rollout that has ended stays ended, also when pods fail later; the next template starts a new one.
  if (old?.reason === 'NewReplicaSetAvailable' && counts.replicas === counts.updatedReplicas)
    return { condition: say('True', old.reason, old.message ?? '', false), recheckInMs: undefined };
  const moved =
    old === undefined ||
    old.reason === 'NewReplicaSetAvailable' ||
    old.reason === 'DeploymentPaused' ||
    counts.updatedReplicas > (before.updatedReplicas ?? 0) ||
    counts.readyReplicas > (before.readyReplicas ?? 0) ||
    counts.availableReplicas > (before.availableReplicas ?? 0) ||
    counts.replicas - counts.updatedReplicas < (before.replicas ?? 0) - (before.updatedReplicas ?? 0);
  const deadlineMs = (spec.progressDeadlineSeconds ?? PROGRESS_DEADLINE_SECONDS) * 1000;
  const sinceMs = moved ? nowMs : Date.parse(old.lastUpdateTime ?? '') || nowMs;
  if (!moved && (old.reason === 'ProgressDeadlineExceeded' || nowMs - sinceMs >= deadlineMs))
    return {
      condition: say('False', 'ProgressDeadlineExceeded', `${name}has timed out progressing.`, false),
      recheckInMs: undefined,
    };
  return {
    condition: say('True', 'ReplicaSetUpdated', `${name}is progressing.`, moved),
    // Times in the status are whole seconds, hence one more.
    recheckInMs: sinceMs + deadlineMs + 1000 - nowMs,
  };
}
