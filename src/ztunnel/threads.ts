// How many threads serve connections (ztunnel.md §1.4): the field's settings and forms. The default differs from the field's
// two: up to four cores one thread does more with them than two (docs/decisions/0015-workers.md).

import { invalid, type Reader } from './environment.ts';

/** Each is a loop with a heap of its own, 14 MB; a larger number is a slip of the pen. */
const MOST_THREADS = 128;
/** So many cores one thread fills as well as several do. */
const CORES_OF_ONE_THREAD = 4;
const CORES_PER_THREAD = 4;

/** `cores` of the machine count where no limit is given. @throws MeshError CONFIG_INVALID */
export function readThreads(read: Reader, concurrency: number | undefined, cores: number): number {
  const limit = cpuQuantity(read, 'ZTUNNEL_RESOURCE_CPU_LIMIT');
  const request = cpuQuantity(read, 'ZTUNNEL_RESOURCE_CPU_REQUEST') ?? 0;
  // Empty in the field's own manifests where nothing is known.
  const downward =
    read.nonEmpty('ZTUNNEL_CPU_LIMIT') === undefined
      ? undefined
      : Math.max(1, read.integer('ZTUNNEL_CPU_LIMIT', 1, 0, 65_535));
  const cpus = limit ?? downward ?? cores;
  const chosen = explicit(read, cpus) ?? (concurrency === 0 ? cpus : concurrency);
  return Math.min(chosen ?? usual(cpus, limit, request), MOST_THREADS);
}

function explicit(read: Reader, cpus: number): number | undefined {
  const text = read.text('ZTUNNEL_WORKER_THREADS');
  if (text === undefined) return undefined;
  const percent = Number(/^(\d{1,3}(?:\.\d{1,6})?)%$/.exec(text)?.[1] ?? Number.NaN);
  if (percent > 0 && percent <= 100) return Math.ceil((cpus * percent) / 100);
  const threads = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (threads <= MOST_THREADS) return threads === 0 ? cpus : threads;
  throw invalid(
    'ZTUNNEL_WORKER_THREADS',
    text,
    `a whole number up to ${MOST_THREADS} (0: one for each core), or a percentage of the cores from "1%" to "100%"`,
  );
}

function usual(cpus: number, limit: number | undefined, request: number): number {
  if (cpus <= CORES_OF_ONE_THREAD) return 1;
  return Math.max(limit ?? Math.ceil(cpus / CORES_PER_THREAD), request);
}

/** Rounded up. */
function cpuQuantity(read: Reader, name: string): number | undefined {
  const text = read.nonEmpty(name);
  if (text === undefined) return undefined;
  const cpus = /^\d{1,6}(\.\d{1,9})?$/.test(text)
    ? Number(text)
    : /^\d{1,9}m$/.test(text)
      ? Number(text.slice(0, -1)) / 1000
      : 0;
  if (cpus > 0) return Math.ceil(cpus);
  throw invalid(name, text, 'a quantity of CPUs such as "2", "1.5" or "500m"');
}
