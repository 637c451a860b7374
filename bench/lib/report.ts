// The results as a page. Ratios are made round by round and their median is shown, so that drift of the machine cancels.

import type { Sample } from '../run.ts';
import { describeMachine, type Machine } from './machine.ts';
import type { Memory } from './process.ts';

export interface Run extends Machine {
  readonly rounds: number;
  readonly seconds: number;
  readonly wholeMeshPssKiB: number;
}

/** What one implementation's pair of proxies did. */
export interface Proxies {
  readonly results: ReadonlyMap<
    string,
    { readonly mesh: readonly Sample[]; readonly plain: readonly Sample[] }
  >;
  /** What the two proxies hold: at the start, after requests, after streams. */
  readonly memory: ReadonlyMap<string, readonly Memory[]>;
  /** Percent of a core of each with nothing to do. */
  readonly idleCpuPercent: readonly number[];
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function renderResults(run: Run, ours: Proxies, peer: Proxies | undefined, other: string): string {
  return `# Results

Made by \`npm run bench -- --write\`; the method stands in [README.md](README.md).
${describeMachine(run)}, ${run.rounds} rounds of ${run.seconds} s each; medians.

${peer === undefined ? '' : `## Beside ${other}\n\n${comparison(ours, peer)}\n## Ours\n\n`}${page(ours)}
The whole local mesh with the two benchmark peers: ${mebi(run.wholeMeshPssKiB)} MiB PSS.
${peer === undefined ? '' : `\n## The peer's\n\n${page(peer)}`}`;
}

/** What is compared of two implementations: more is better for the first kind, less for the others. */
type Figure = readonly [what: string, unit: string, of: (mesh: Sample, plain: Sample) => number];

const cpu = ({ cpuOut, cpuIn }: Sample): number => (cpuOut + cpuIn) / 2;
/** Private memory that one more quiet connection costs one proxy, KiB. */
const privateKiBPerConnection = ({ mode, amount, memoryBefore, memoryAfter }: Sample): number => {
  const grown = memoryAfter.map(({ privateKiB }, index) => privateKiB - memoryBefore[index]!.privateKiB);
  return mode === 'quiet' ? grown.reduce((sum, kib) => sum + kib, 0) / grown.length / amount : Number.NaN;
};
const FIGURES: readonly Figure[] = [
  ['requests/s', '/s', (mesh) => (mesh.requests > 0 ? mesh.requests / mesh.seconds : Number.NaN)],
  ['Gbit/s', ' Gbit/s', (mesh) => (mesh.bytes > 0 ? (mesh.bytes * 8) / mesh.seconds / 1e9 : Number.NaN)],
  [
    'CPU of a proxy per request',
    ' µs',
    (mesh) => (mesh.requests > 0 ? (cpu(mesh) / mesh.requests) * 1e6 : Number.NaN),
  ],
  [
    'CPU of a proxy',
    ' % of a core',
    (mesh) => (mesh.mode === 'rate' ? (cpu(mesh) / mesh.seconds) * 100 : Number.NaN),
  ],
  ['private memory each', ' KiB', (mesh) => privateKiBPerConnection(mesh)],
  ['CPU s of a proxy per GB', ' s', (mesh) => (mesh.bytes > 0 ? cpu(mesh) / (mesh.bytes / 1e9) : Number.NaN)],
  ['added p50', ' µs', (mesh, plain) => (mesh.p50Us > 0 ? mesh.p50Us - plain.p50Us : Number.NaN)],
  ['added p90', ' µs', (mesh, plain) => (mesh.p90Us > 0 ? mesh.p90Us - plain.p90Us : Number.NaN)],
  ['added p99', ' µs', (mesh, plain) => (mesh.p99Us > 0 ? mesh.p99Us - plain.p99Us : Number.NaN)],
];

/** Ours divided by the peer's, round by round, then the median. */
function comparison(ours: Proxies, peer: Proxies): string {
  const rows: string[] = [];
  for (const [name, { mesh, plain }] of ours.results) {
    const other = peer.results.get(name);
    if (other === undefined) continue;
    for (const [what, unit, of] of FIGURES) {
      const mine = mesh.map((sample, index) => of(sample, plain[index] as Sample));
      const theirs = other.mesh.map((sample, index) => of(sample, other.plain[index] as Sample));
      if (!Number.isFinite(median(mine)) || !Number.isFinite(median(theirs))) continue;
      const ratio = median(mine.map((value, index) => value / (theirs[index] as number)));
      const shown = (values: readonly number[]): string => {
        const value = median(values);
        return `${value >= 20 ? value.toFixed(0) : value.toFixed(2)}${unit}`;
      };
      rows.push(`| ${name} | ${what} | ${shown(mine)} | ${shown(theirs)} | ${ratio.toFixed(2)} |`);
    }
  }
  return `| flow | figure | ours | peer | ours / peer |\n|---|---|---|---|---|\n${rows.join('\n')}\n`;
}

function page(run: Proxies): string {
  const rows: string[] = [];
  for (const [name, { mesh, plain }] of run.results) {
    const of = (samples: readonly Sample[], pick: (sample: Sample) => number): number =>
      median(samples.map(pick));
    const added = (pick: (sample: Sample) => number): string =>
      micros(median(mesh.map((sample, index) => pick(sample) - pick(plain[index] as Sample))));
    if (mesh[0] !== undefined && mesh[0].bytes > 0) {
      const rate = (sample: Sample): number => (sample.bytes * 8) / sample.seconds / 1e9;
      const perGb = (pick: (sample: Sample) => number): string =>
        of(mesh, (sample) => pick(sample) / (sample.bytes / 1e9)).toFixed(2);
      const share = median(mesh.map((sample, index) => rate(sample) / rate(plain[index] as Sample)));
      rows.push(
        `| ${name} | ${of(plain, rate).toFixed(1)} Gbit/s | ${of(mesh, rate).toFixed(2)} Gbit/s | ${share.toFixed(2)} × | CPU s/GB: ${perGb((s) => s.cpuOut)} out, ${perGb((s) => s.cpuIn)} in |`,
      );
      continue;
    }
    if (mesh[0]?.mode === 'quiet') {
      const each = of(mesh, privateKiBPerConnection).toFixed(1);
      rows.push(`| ${mesh[0].amount} ${name} more | - | - | - | private memory: ${each} KiB each |`);
      continue;
    }
    const rate = (sample: Sample): number => sample.requests / sample.seconds;
    const share = median(mesh.map((sample, index) => rate(sample) / rate(plain[index] as Sample)));
    const perRequest = (pick: (sample: Sample) => number): string =>
      micros(of(mesh, (sample) => (pick(sample) / sample.requests) * 1e6));
    const latency =
      mesh[0] !== undefined && mesh[0].p50Us > 0
        ? `; added p50 ${added((s) => s.p50Us)}, p90 ${added((s) => s.p90Us)}, p99 ${added((s) => s.p99Us)}`
        : '';
    rows.push(
      `| ${name} | ${of(plain, rate).toFixed(0)}/s | ${of(mesh, rate).toFixed(0)}/s | ${share.toFixed(2)} × | CPU: ${perRequest((s) => s.cpuOut)} out, ${perRequest((s) => s.cpuIn)} in${latency} |`,
    );
  }
  const memory = (label: string, values: readonly Memory[]): string =>
    `| ${label} | ${values.map(({ rssKiB }) => mebi(rssKiB)).join(', ')} | ${values.map(({ pssKiB }) => mebi(pssKiB)).join(', ')} | ${values.map(({ privateKiB }) => mebi(privateKiB)).join(', ')} |`;
  return `| What | without a proxy | through both ztunnels | ratio | per proxy, and added latency |
|---|---|---|---|---|
${rows.join('\n')}

CPU of the two ztunnels (n1, n2) with nothing to do: ${run.idleCpuPercent.map((value) => value.toFixed(2)).join(', ')} % of a core.

Memory of the two ztunnels (n1, n2), MiB:

| | resident | proportional (PSS) | private |
|---|---|---|---|
${[...run.memory].map(([label, values]) => memory(label, values)).join('\n')}
`;
}

function micros(value: number): string {
  return `${value.toFixed(0)} µs`;
}

function mebi(kibi: number): string {
  return (kibi / 1024).toFixed(0);
}
