// How many pods a PodDisruptionBudget lets go (pure).

import type { Pod, PodDisruptionBudget } from '#k8s/objects.ts';
import { isPodReady, isPodTerminating } from './pods.ts';
import { resolveCount } from './rollout.ts';

/** An eviction that was let through and not carried out is forgotten after this. */
export const EVICTION_LIMIT_MS = 120_000;

export interface BudgetInput {
  readonly budget: PodDisruptionBudget;
  /** Pods that its selector matches and that have not finished. */
  readonly pods: readonly Pod[];
  /** What the pods' controllers want to have; undefined when a pod has none. */
  readonly wanted: number | undefined;
  readonly nowMs: number;
}

export interface BudgetStatus {
  readonly disruptionsAllowed: number;
  readonly currentHealthy: number;
  readonly desiredHealthy: number;
  readonly expectedPods: number;
  readonly disruptedPods: Readonly<Record<string, string>> | undefined;
  /** When an eviction under way will be forgotten. */
  readonly recheckInMs: number | undefined;
  /** Why nothing may go although the counts might allow it. */
  readonly problem: string | undefined;
}

export function budgetStatus({ budget, pods, wanted, nowMs }: BudgetInput): BudgetStatus {
  const { minAvailable, maxUnavailable } = budget.spec;
  const disrupted = stillDisrupted(budget, pods, nowMs);
  const names = Object.keys(disrupted);
  const currentHealthy = pods.filter(
    (pod) => isPodReady(pod) && !isPodTerminating(pod) && !names.includes(pod.metadata.name),
  ).length;
  // A fixed minimum needs no idea of how many there should be; everything else is a part of that number.
  const byNumber = maxUnavailable === undefined && typeof minAvailable === 'number';
  const expectedPods = byNumber ? pods.length : (wanted ?? 0);
  const desiredHealthy =
    maxUnavailable !== undefined
      ? Math.max(0, expectedPods - resolveCount(maxUnavailable, expectedPods, 'up', 0))
      : resolveCount(minAvailable, expectedPods, 'up', 1);
  const unknown = !byNumber && wanted === undefined && pods.length > 0;
  const allowed = expectedPods === 0 || unknown ? 0 : Math.max(0, currentHealthy - desiredHealthy);
  const ends = Object.values(disrupted).map((since) => Date.parse(since) + EVICTION_LIMIT_MS - nowMs);
  return {
    disruptionsAllowed: allowed,
    currentHealthy,
    desiredHealthy,
    expectedPods,
    disruptedPods: names.length === 0 ? undefined : disrupted,
    recheckInMs: ends.length === 0 ? undefined : Math.max(0, Math.min(...ends)),
    problem: unknown ? 'a pod has no controller: how many there should be is not known' : undefined,
  };
}

/** Evicted, but not seen ending yet. */
function stillDisrupted(
  budget: PodDisruptionBudget,
  pods: readonly Pod[],
  nowMs: number,
): Record<string, string> {
  const going = budget.status?.disruptedPods ?? {};
  return Object.fromEntries(
    Object.entries(going).filter(([name, since]) => {
      const pod = pods.find(({ metadata }) => metadata.name === name);
      return pod !== undefined && !isPodTerminating(pod) && Date.parse(since) + EVICTION_LIMIT_MS > nowMs;
    }),
  );
}
