// Taints of nodes and tolerations of pods (pure).

export interface Taint {
  readonly key: string;
  readonly value?: string;
  readonly effect: string;
  /** Since when; NoExecute taints have it. */
  readonly timeAdded?: string;
}

export interface Toleration {
  readonly key?: string;
  readonly operator?: string;
  readonly value?: string;
  readonly effect?: string;
  readonly tolerationSeconds?: number;
}

export const NOT_READY_TAINT = 'node.kubernetes.io/not-ready';
export const UNREACHABLE_TAINT = 'node.kubernetes.io/unreachable';
export const UNSCHEDULABLE_TAINT = 'node.kubernetes.io/unschedulable';
/** Set by a person who knows that the node will not come back: its pods are given up at once. */
export const OUT_OF_SERVICE_TAINT = 'node.kubernetes.io/out-of-service';

export function tolerates(
  { key = '', operator = 'Equal', value = '', effect = '' }: Toleration,
  taint: Taint,
): boolean {
  if (effect !== '' && effect !== taint.effect) return false;
  if (key !== '' && key !== taint.key) return false;
  // Without a key, only `Exists` means anything.
  if (operator === 'Exists') return true;
  return key !== '' && value === (taint.value ?? '');
}

/** The first taint with one of the effects that no toleration covers. */
export function untoleratedTaint(
  taints: readonly Taint[],
  tolerations: readonly Toleration[],
  effects: readonly string[],
): Taint | undefined {
  return taints.find(
    (taint) =>
      effects.includes(taint.effect) && !tolerations.some((toleration) => tolerates(toleration, taint)),
  );
}

/**
 * When the NoExecute taints of its node end a pod, in ms since the epoch; undefined when they never do. As in the field,
 * of several tolerations that cover a taint the first one counts.
 */
export function evictionDueMs(
  taints: readonly Taint[],
  tolerations: readonly Toleration[],
  sinceMs: (taint: Taint) => number,
): number | undefined {
  let due = Number.POSITIVE_INFINITY;
  for (const taint of taints) {
    if (taint.effect !== 'NoExecute') continue;
    const covering = tolerations.find((toleration) => tolerates(toleration, taint));
    if (covering === undefined) return sinceMs(taint);
    if (covering.tolerationSeconds !== undefined)
      due = Math.min(due, sinceMs(taint) + Math.max(0, covering.tolerationSeconds) * 1000);
  }
  return Number.isFinite(due) ? due : undefined;
}

const daemonToleration = (key: string, effect: string): Toleration => ({ key, operator: 'Exists', effect });

/** What every daemon's pod is given: it stays on a node that is ill and runs on one that is cordoned. */
export const DAEMON_TOLERATIONS: readonly Toleration[] = [
  daemonToleration(NOT_READY_TAINT, 'NoExecute'),
  daemonToleration(UNREACHABLE_TAINT, 'NoExecute'),
  daemonToleration('node.kubernetes.io/disk-pressure', 'NoSchedule'),
  daemonToleration('node.kubernetes.io/memory-pressure', 'NoSchedule'),
  daemonToleration('node.kubernetes.io/pid-pressure', 'NoSchedule'),
  daemonToleration(UNSCHEDULABLE_TAINT, 'NoSchedule'),
  // Ours: a node that is not ready is given its daemons, or it would never become so.
  daemonToleration(NOT_READY_TAINT, 'NoSchedule'),
  daemonToleration(UNREACHABLE_TAINT, 'NoSchedule'),
];
