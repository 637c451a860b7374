// The results as a page.

export interface Outcome {
  readonly workloads: number;
  readonly clients: number;
  /** From the first connection to the last client's first ACK of both types. */
  readonly firstSettledMs: number;
  /** Milliseconds of each event. */
  readonly rows: ReadonlyMap<string, readonly number[]>;
  /** Of all events together. */
  readonly bytes: number;
  readonly responses: number;
  readonly cpuSeconds: number | undefined;
  readonly memoryMiB: number | undefined;
  readonly restarted:
    | {
        readonly readyMs: number;
        readonly settledMs: number;
        readonly bytes: number;
        readonly resources: number;
        readonly cpuSeconds: number | undefined;
      }
    | undefined;
}

export function render(title: string, outcomes: readonly Outcome[]): string {
  const line = (name: string, of: (outcome: Outcome) => string): string =>
    `| ${name} | ${outcomes.map(of).join(' | ')} |`;
  const names = [...(outcomes[0]?.rows.keys() ?? [])];
  const lines = [
    line('workloads × clients', ({ workloads, clients }) => `${workloads} × ${clients}`),
    `|---|${outcomes.map(() => '---|').join('')}`,
    ...names.map((name) => line(name, ({ rows }) => percentiles(rows.get(name) ?? []))),
    line('all clients connected, from nothing', ({ firstSettledMs }) => seconds(firstSettledMs)),
    line('restart: port open again', ({ restarted }) => optional(restarted, (it) => seconds(it.readyMs))),
    line('restart: all clients settled', ({ restarted }) =>
      optional(restarted, (it) => seconds(it.settledMs)),
    ),
    line('restart: sent again', ({ restarted }) =>
      optional(restarted, (it) => `${it.resources} resources, ${kilobytes(it.bytes)}`),
    ),
    line('restart: CPU', ({ restarted }) => optional(restarted?.cpuSeconds, (it) => `${it.toFixed(2)} s`)),
    line('sent for all events', ({ bytes, responses }) => `${kilobytes(bytes)}, ${responses} responses`),
    line('CPU for all events', ({ cpuSeconds }) => optional(cpuSeconds, (it) => `${it.toFixed(2)} s`)),
    line('memory after them (resident)', ({ memoryMiB }) =>
      optional(memoryMiB, (it) => `${it.toFixed(0)} MiB`),
    ),
  ];
  return `## ${title}\n\n${lines.join('\n')}\n`;
}

function percentiles(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): string =>
    (sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN).toFixed(0);
  return sorted.length === 1 ? `${at(1)} ms` : `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`;
}

const optional = <T>(value: T | undefined, show: (value: T) => string): string =>
  value === undefined ? '–' : show(value);
const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
const kilobytes = (bytes: number): string => `${(bytes / 1000).toFixed(0)} kB`;
