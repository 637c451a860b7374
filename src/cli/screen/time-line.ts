// `culvert up --timings`: when each part of the start-up began and ended, as one chart (pure).

import type { Style } from '../style.ts';

export interface TimedStep {
  readonly name: string;
  /** Since the person pressed return. */
  readonly startMs: number;
  readonly endMs: number;
}

const CHART_COLUMNS = 40;

export function renderTimeLine(steps: readonly TimedStep[], style: Style): string[] {
  const totalMs = Math.max(1, ...steps.map(({ endMs }) => endMs));
  const column = (ms: number): number => Math.round((ms / totalMs) * CHART_COLUMNS);
  const seconds = (ms: number): string => (ms / 1000).toFixed(2).padStart(6);
  const width = Math.max(0, ...steps.map(({ name }) => name.length));
  const lines = [...steps]
    .sort((a, b) => a.startMs - b.startMs || a.endMs - b.endMs)
    .map(({ name, startMs, endMs }) => {
      const from = Math.min(column(startMs), CHART_COLUMNS - 1);
      const bar = '█'.repeat(Math.max(1, column(endMs) - from));
      return `  ${name.padEnd(width)} ${seconds(startMs)} ${seconds(endMs)}  ${' '.repeat(from)}${style.accent(bar)}`;
    });
  return [style.bold('Time line') + style.dim(' (seconds since the start: from, to)'), ...lines];
}
