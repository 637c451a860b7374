// The results as a page. Ratios are made round by round and their median is shown, so that drift of the machine cancels.

import type { Sample } from '../run.ts';
import type { Memory } from './process.ts';

export interface Results {
  readonly commit: string;
  readonly kernel: string;
  readonly cores: number;
  readonly processor: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly results: ReadonlyMap<
    string,
    { readonly mesh: readonly Sample[]; readonly plain: readonly Sample[] }
  >;
  readonly idleMemory: readonly Memory[];
  readonly busyMemory: readonly Memory[];
  readonly wholeMeshPssKiB: number;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function renderResults(run: Results): string {
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
  return `# Results

Made by \`npm run bench -- --write\`; the method stands in [README.md](README.md).
Commit ${run.commit}, Linux ${run.kernel}, ${run.cores} cores (${run.processor}), ${run.rounds} rounds of ${run.seconds} s each; medians.

| What | without a proxy | through both ztunnels | ratio | per proxy, and added latency |
|---|---|---|---|---|
${rows.join('\n')}

Memory of the two ztunnels (n1, n2), MiB:

| | resident | proportional (PSS) | private |
|---|---|---|---|
${memory('idle', run.idleMemory)}
${memory('after all measurements', run.busyMemory)}

The whole local mesh with the two benchmark peers: ${mebi(run.wholeMeshPssKiB)} MiB PSS.
`;
}

function micros(value: number): string {
  return `${value.toFixed(0)} µs`;
}

function mebi(kibi: number): string {
  return (kibi / 1024).toFixed(0);
}
