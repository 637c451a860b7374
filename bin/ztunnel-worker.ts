// A further thread of ztunnel, started by it when several are to serve; not a program of its own.

import { parentPort, workerData } from 'node:worker_threads';
import type { WorkerStart } from '#ztunnel/workers/messages.ts';
import { runWorker } from '#ztunnel/workers/worker.ts';

if (parentPort === null) {
  process.stderr.write('ztunnel-worker: a part of ztunnel; start that\n');
  process.exitCode = 1;
} else runWorker(parentPort, workerData as WorkerStart, () => process.exit(0));
