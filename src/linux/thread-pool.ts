// libuv's pool threads inherit the network namespace of whoever starts them. They are all started here, from the
// program's own namespace, before any namespace work can lend them another one.

import { stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';

/** More than any pool of default size; libuv starts all its threads with the first job in any case. */
const JOBS = 4;

/** To be awaited once, early, by every program that enters network namespaces. */
export async function warmThreadPool(): Promise<void> {
  await Promise.all(Array.from({ length: Math.max(JOBS, availableParallelism()) }, () => stat('/')));
}
