// A target's run in its thread, watched: an input that does not come back, or that ends the thread, is a failure as well.

import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { type Job, type Report, SHARED_BYTES } from './worker-types.ts';

/** For one input. The noise of a busy machine is far below it. */
const HANG_MS = 20_000;
const THREAD_MEMORY_MB = 1024;

export function runWatched(job: Omit<Job, 'shared'>, hangMs: number = HANG_MS): Promise<Report> {
  const shared = new SharedArrayBuffer(SHARED_BYTES);
  const words = new Int32Array(shared, 0, 2);
  const present = (): Buffer => {
    const input = new Uint8Array(shared, 8, Math.min(Atomics.load(words, 1), SHARED_BYTES - 8));
    return Buffer.from(Uint8Array.from(input));
  };
  return new Promise((resolve) => {
    const worker = new Worker(join(import.meta.dirname, 'worker.ts'), {
      workerData: { ...job, shared },
      resourceLimits: { maxOldGenerationSizeMb: THREAD_MEMORY_MB },
    });
    let begun = 0;
    let sinceMs = performance.now();
    const watch = setInterval(
      () => {
        const now = Atomics.load(words, 0);
        if (now !== begun) {
          begun = now;
          sinceMs = performance.now();
        } else if (performance.now() - sinceMs > hangMs) {
          fail(`nothing came back for ${hangMs / 1000} s`);
        }
      },
      Math.min(500, hangMs / 4),
    );
    const finish = (report: Report): void => {
      clearInterval(watch);
      void worker.terminate();
      resolve(report);
    };
    const fail = (what: string): void => {
      const failure = { what, input: present() };
      finish({ inputs: Atomics.load(words, 0), kinds: 0, failure });
    };
    worker.once('message', finish);
    worker.once('error', (error) => fail(`the thread ended: ${(error as Error).stack ?? String(error)}`));
  });
}
