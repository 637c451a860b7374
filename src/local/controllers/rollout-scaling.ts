// A Deployment that is given another number of replicas while more than one of its ReplicaSets has pods (pure): the change is
// spread over them by their sizes, and the roll-out goes on from there. The rules and names are Kubernetes' own.

/** On a ReplicaSet: the Deployment's replicas when it was scaled last, without and with the surge. */
export const DESIRED_REPLICAS = 'deployment.kubernetes.io/desired-replicas';
export const MAX_REPLICAS = 'deployment.kubernetes.io/max-replicas';

export interface ScaledSet {
  readonly replicas: number;
  readonly available: number;
  readonly isCurrent: boolean;
  readonly bornMs: number;
  /** As noted on it; undefined where nothing is. */
  readonly desiredBefore: number | undefined;
  readonly maxBefore: number | undefined;
}

export interface ScalingInput {
  readonly desired: number;
  readonly maxSurge: number;
  readonly rolling: boolean;
  /** What the Deployment's status counts: the measure where a set has no note. */
  readonly present: number;
  /** Oldest revision first. */
  readonly sets: readonly ScaledSet[];
}

/** Whether the Deployment's number has changed since its sets were scaled. */
export const isScaling = (desired: number, sets: readonly ScaledSet[]): boolean =>
  sets.some(
    ({ replicas, desiredBefore }) => replicas > 0 && desiredBefore !== undefined && desiredBefore !== desired,
  );

/** How many replicas each set should have, in the order of the input. */
export function planScaling({ desired, maxSurge, rolling, present, sets }: ScalingInput): number[] {
  const sizes = sets.map(({ replicas }) => replicas);
  const active = sets.map((set, index) => ({ ...set, index })).filter(({ replicas }) => replicas > 0);
  if (active.length <= 1) {
    const only = active[0]?.index ?? sets.findIndex(({ isCurrent }) => isCurrent);
    // With no pods and no set of the present template the newest one there is grows.
    const grows = only >= 0 ? only : sets.length - 1;
    if (grows >= 0) sizes[grows] = desired;
    return sizes;
  }
  const current = sets.find(({ isCurrent }) => isCurrent);
  if (
    current !== undefined &&
    current.replicas === desired &&
    current.desiredBefore === desired &&
    current.available === desired
  )
    return sets.map(({ replicas, isCurrent }) => (isCurrent ? replicas : 0));
  if (!rolling) return sizes;

  const max = desired === 0 ? 0 : desired + maxSurge;
  const change = max - sizes.reduce((sum, size) => sum + size, 0);
  // The largest first; of equals the newer one grows first, the older one shrinks first.
  const order = active.sort(
    (a, b) => b.replicas - a.replicas || (a.bornMs - b.bornMs) * (change > 0 ? -1 : 1),
  );
  let left = change;
  for (const { index, replicas, maxBefore } of order) {
    const share = shareOf(replicas, { desired, max, before: maxBefore || present });
    const part = change > 0 ? Math.min(share, left) : Math.max(share, left);
    sizes[index] = replicas + (left === 0 ? 0 : part);
    if (left !== 0) left -= part;
  }
  // What rounding left over is the largest one's.
  const [largest] = order;
  if (largest !== undefined) sizes[largest.index] = Math.max(0, (sizes[largest.index] ?? 0) + left);
  return sizes;
}

function shareOf(
  replicas: number,
  { desired, max, before }: { readonly desired: number; readonly max: number; readonly before: number },
): number {
  if (desired === 0) return -replicas;
  return before === 0 ? 0 : Math.floor((replicas * max) / before + 0.5) - replicas;
}
