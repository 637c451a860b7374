// Part of every bundle: lets a process end that has said so.
//
// Node joins V8's threads when it exits. With `--optimize-for-size` a compiler's thread that meets a full heap asks the main
// thread for a collection, and waits; the main thread waits for it in turn: the process never ends
// (docs/decisions/0021-ends.md). Without the flag the thread lets the heap grow; whoever waits already is let on by a collection.

import { setFlagsFromString } from 'node:v8';
import { isMainThread } from 'node:worker_threads';

if (isMainThread)
  process.on('exit', () => {
    setFlagsFromString('--no-optimize-for-size');
    globalThis.gc?.();
  });
