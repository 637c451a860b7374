// The suites of this folder run with one thread; `NAME-threads.test.ts` runs the suite NAME once more with several.

import type { MeshError } from '#base/errors.ts';
import type { DataPlaneDeps } from '#ztunnel/owner.ts';
import { workersOf } from '#ztunnel/workers/group.ts';

export const THREADS = Number(process.env.CULVERT_TEST_THREADS ?? '1');

/** What a data plane of `threads` needs beside its settings. */
export function furtherThreads(
  threads: number,
  lines: string[],
  onCrash: (error: MeshError) => void,
  entry = new URL('../../../bin/ztunnel-worker.ts', import.meta.url),
): Pick<DataPlaneDeps, 'startWorkers'> {
  if (threads === 1) return {};
  return {
    startWorkers: workersOf({
      entry,
      write: (text) => void lines.push(...text.split(/(?<=\n)/)),
      onCrash,
      onHung: onCrash,
    }),
  };
}
