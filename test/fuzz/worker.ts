// Fuzzes one target in a thread of its own, so that whoever started it can end it when an input never comes back. The input
// being tried stands in shared memory: it is known even then.

import { parentPort, workerData } from 'node:worker_threads';
import { type Failure, fuzz, smaller, tryInput } from './engine.ts';
import { TARGETS } from './targets/all.ts';
import type { Job, Report } from './worker-types.ts';

const job = workerData as Job;
const target = TARGETS.find(({ name }) => name === job.target);
if (target === undefined || parentPort === null) throw new Error(`no target ${job.target}, or no thread`);
const words = new Int32Array(job.shared, 0, 2);
const bytes = new Uint8Array(job.shared, 8);
const onInput = (input: Uint8Array): void => {
  bytes.set(input.subarray(0, bytes.length));
  Atomics.store(words, 1, input.length);
  Atomics.add(words, 0, 1);
};

async function run(): Promise<Report> {
  const { seed, maxInputs, maxMs } = job;
  if (job.input !== undefined) {
    onInput(job.input);
    const result = await tryInput(target!, Buffer.from(job.input));
    const failure = 'what' in result ? { what: result.what, input: job.input } : undefined;
    return { inputs: 1, kinds: 1, failure };
  }
  const outcome = await fuzz(target!, { seed, maxInputs, maxMs, onInput });
  return { ...outcome, failure: outcome.failure && (await reduced(outcome.failure)) };
}

async function reduced({ what, input }: Failure): Promise<Failure> {
  return { target: target!.name, what, input: await smaller(target!, input) };
}

// Handles that a target leaves open (a timer of a socket that was cut) must not keep the thread.
run().then(
  (report) => {
    parentPort?.postMessage(report);
    parentPort?.close();
    setImmediate(() => process.exit(0));
  },
  (error: unknown) => {
    throw error;
  },
);
