// The pure part of a Deployment's rollout: how many replicas each ReplicaSet should have now, given what is available.

export interface SetCounts {
  readonly replicas: number;
  readonly available: number;
}

export interface RolloutInput {
  readonly desired: number;
  readonly maxSurge: number;
  readonly maxUnavailable: number;
  /** The ReplicaSet of the current template. */
  readonly current: SetCounts;
  /** The others, oldest first. */
  readonly old: readonly SetCounts[];
}

export interface RolloutPlan {
  readonly current: number;
  /** In the order of the input. */
  readonly old: readonly number[];
}

/** A number, or a percentage of the desired replicas. */
export function resolveCount(
  value: number | string | undefined,
  desired: number,
  round: 'up' | 'down',
  fallback: number | string,
): number {
  const text = String(value ?? fallback);
  const percent = /^(\d+)%$/.exec(text)?.[1];
  if (percent === undefined) return Math.max(0, Number.parseInt(text, 10) || 0);
  const exact = (Number(percent) * desired) / 100;
  return round === 'up' ? Math.ceil(exact) : Math.floor(exact);
}

export interface RollingUpdate {
  readonly maxSurge?: number | string;
  readonly maxUnavailable?: number | string;
}

/** A quarter each unless told otherwise. Both zero would never move, so one pod may then be missing. */
export function resolveRollingUpdate(
  settings: RollingUpdate | undefined,
  desired: number,
): { maxSurge: number; maxUnavailable: number } {
  const maxSurge = resolveCount(settings?.maxSurge, desired, 'up', '25%');
  const maxUnavailable = resolveCount(settings?.maxUnavailable, desired, 'down', '25%');
  return maxSurge === 0 && maxUnavailable === 0
    ? { maxSurge, maxUnavailable: 1 }
    : { maxSurge, maxUnavailable: Math.min(maxUnavailable, desired) };
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/**
 * One step. At no time more than `desired + maxSurge` pods are asked for (beyond what exists already), and no pod that
 * is available is given up while fewer than `desired - maxUnavailable` would remain.
 */
export function planRollingUpdate(input: RolloutInput): RolloutPlan {
  const { desired, maxSurge, maxUnavailable, old } = input;
  const old_ = old.map(({ replicas }) => replicas);

  // Up: as much of the new as the surge leaves room for; down at once when it is too large.
  const room = Math.max(0, desired + maxSurge - input.current.replicas - sum(old_));
  const current =
    input.current.replicas > desired ? desired : Math.min(desired, input.current.replicas + room);

  const minAvailable = desired - maxUnavailable;
  // Pods of the new template that are not available yet must not be counted on.
  const currentAvailable = Math.min(input.current.available, current);
  let spare = sum(old_) + current - minAvailable - (current - currentAvailable);
  // Pods that serve nobody go first: giving them up costs nothing.
  for (const [index, { replicas, available }] of old.entries()) {
    const unhealthy = Math.min(Math.max(0, replicas - available), Math.max(0, spare));
    old_[index] = replicas - unhealthy;
    spare -= unhealthy;
  }
  let dispensable =
    sum(old.map(({ available }, index) => Math.min(available, old_[index] as number))) +
    currentAvailable -
    minAvailable;
  for (const [index, replicas] of old_.entries()) {
    const available = Math.min((old[index] as SetCounts).available, replicas);
    const less = Math.min(available, Math.max(0, dispensable));
    old_[index] = replicas - less;
    dispensable -= less;
  }
  return { current, old: old_ };
}

/** Recreate: nothing new while anything old is left. */
export function planRecreate(input: {
  readonly desired: number;
  readonly current: number;
  readonly oldPodsLeft: boolean;
}): { readonly current: number; readonly old: 0 } {
  return { current: input.oldPodsLeft ? Math.min(input.current, input.desired) : input.desired, old: 0 };
}
