// Whether something grows: a straight line through what was measured, after the warm-up, and how much it rises from the first
// measurement to the last.

export interface Point {
  readonly atMs: number;
  readonly value: number;
}

export interface Fit {
  readonly mean: number;
  /** Of the line, over the time that was measured. */
  readonly growth: number;
}

/** What counts as flat: the line may rise by this much. */
export interface Limit {
  readonly amount: number;
  /** And by this part of the mean. */
  readonly share: number;
}

/** Least squares. The points after the first third, in which a process still finds its size. */
export function fit(points: readonly Point[]): Fit {
  const settled = points.slice(Math.floor(points.length / 3));
  if (settled.length < 5) throw new Error(`${points.length} measurements are too few to judge by`);
  const count = settled.length;
  const meanMs = settled.reduce((sum, { atMs }) => sum + atMs, 0) / count;
  const mean = settled.reduce((sum, { value }) => sum + value, 0) / count;
  let covariance = 0;
  let variance = 0;
  for (const { atMs, value } of settled) {
    covariance += (atMs - meanMs) * (value - mean);
    variance += (atMs - meanMs) ** 2;
  }
  const slope = variance === 0 ? 0 : covariance / variance;
  return { mean, growth: slope * (settled.at(-1)!.atMs - settled[0]!.atMs) };
}

export function isFlat({ mean, growth }: Fit, { amount, share }: Limit): boolean {
  return growth <= amount + share * mean;
}
