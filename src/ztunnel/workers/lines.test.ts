import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { written } from './lines.ts';

test('a thread whose lines nobody writes waits, and goes on when they are written', async () => {
  const unwritten = new Int32Array(new SharedArrayBuffer(4));
  const many = 1_000;
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     import(${JSON.stringify(new URL('./lines.ts', import.meta.url).href)}).then(({ handOn }) => {
       const unwritten = new Int32Array(workerData);
       for (let each = 0; each < ${many}; each++) handOn(unwritten, 'x'.repeat(1024), (text) => parentPort.postMessage(text));
     });`,
    { eval: true, workerData: unwritten.buffer },
  );
  const lines: string[] = [];
  worker.on('message', (text: string) => lines.push(text));
  // It stops within the limit and a line: everything sent so far is here, and no more comes.
  const sent = (): number => Atomics.load(unwritten, 0);
  while (sent() <= 256 * 1024) await new Promise((resolve) => setTimeout(resolve, 1));
  const stopped = sent();
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(sent(), stopped);
  assert.equal(stopped, 257 * 1024);
  let done = 0;
  const writer = setInterval(() => {
    for (; done < lines.length; done++) written(unwritten, lines[done]!);
  }, 1);
  await once(worker, 'exit');
  clearInterval(writer);
  assert.equal(lines.length, many);
});
