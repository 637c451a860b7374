// How many threads the field's settings ask for (ztunnel.md §1.4). One thread serves here, so the answer is a sentence for
// the log; values that cannot be read stop the start all the same, as in the field.

import { invalid, type Reader } from './environment.ts';

/** What to say at the start: nothing unless more than one thread was asked for. */
export function readThreads(read: Reader, concurrency: number | undefined): string[] {
  const threads = read.text('ZTUNNEL_WORKER_THREADS');
  const form = 'a whole number, or a percentage of the cores from "1%" to "100%"';
  if (threads !== undefined && !isThreads(threads)) throw invalid('ZTUNNEL_WORKER_THREADS', threads, form);
  for (const name of ['ZTUNNEL_RESOURCE_CPU_LIMIT', 'ZTUNNEL_RESOURCE_CPU_REQUEST']) {
    const quantity = read.nonEmpty(name);
    if (quantity !== undefined && !/^\d{1,6}(\.\d{1,9})?$|^\d{1,9}m$/.test(quantity))
      throw invalid(name, quantity, 'a quantity of CPUs such as "2", "1.5" or "500m"');
  }
  if (read.nonEmpty('ZTUNNEL_CPU_LIMIT') !== undefined) read.integer('ZTUNNEL_CPU_LIMIT', 1, 0, 65_535);
  const asked = threads ?? (concurrency === undefined ? undefined : String(concurrency));
  if (asked === undefined || asked === '1') return [];
  const source = threads === undefined ? 'concurrency' : 'ZTUNNEL_WORKER_THREADS';
  return [`${source}=${asked} has no effect: one thread serves`];
}

function isThreads(text: string): boolean {
  const percent = /^(\d{1,3}(?:\.\d{1,6})?)%$/.exec(text)?.[1];
  if (percent !== undefined) return Number(percent) > 0 && Number(percent) <= 100;
  return /^\d{1,5}$/.test(text);
}
