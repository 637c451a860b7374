// A further thread of ztunnel that hangs, as a fault of ours would make it, when it is told of a log scope with its name.

import { parentPort, threadName } from 'node:worker_threads';

parentPort?.on('message', (message: { value?: { scopes?: unknown } }) => {
  const scopes = message.value?.scopes;
  // Long enough for any test; that its end is waited for, not forever, keeps the runner's exit in sight.
  if (scopes instanceof Map && scopes.has(`hang ${threadName}`))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5000);
});

await import('../../bin/ztunnel-worker.ts');
