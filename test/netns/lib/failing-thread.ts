// Loaded before the program: a further thread of ztunnel fails, as a fault of ours would make it, when it is told of a log scope `fail`.

import { isMainThread, parentPort } from 'node:worker_threads';

if (!isMainThread)
  parentPort?.on('message', (message: { value?: { scopes?: unknown } }) => {
    const scopes = message.value?.scopes;
    if (scopes instanceof Map && scopes.has('fail')) throw new Error('a fault of ours');
  });
