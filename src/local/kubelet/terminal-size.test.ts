import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Resizes } from '#local/streams/command-client.ts';
import type { TerminalSize } from '#local/streams/pod-streams.ts';
import { followSize } from './terminal-size.ts';

const NEVER_MS = 2 ** 30;
const SIZE = { columns: 101, rows: 33 };

test('exec -it: a program started before its client told the size saw 0 0', async () => {
  const resizes = new Resizes();
  const heard: TerminalSize[] = [];
  let started = false;
  const start = followSize(
    { onResize: resizes.listen, gone: new AbortController().signal },
    (size) => heard.push(size),
    NEVER_MS,
  ).then(() => {
    started = true;
  });
  await new Promise(setImmediate);
  assert.equal(started, false);
  resizes.set(SIZE);
  await start;
  assert.deepEqual(heard, [SIZE]);
  resizes.set({ columns: 90, rows: 40 });
  assert.deepEqual(heard.at(-1), { columns: 90, rows: 40 });
});

test('a size told before costs no wait', async () => {
  const resizes = new Resizes();
  resizes.set(SIZE);
  await followSize(
    { onResize: resizes.listen, gone: new AbortController().signal },
    (size) => assert.deepEqual(size, SIZE),
    NEVER_MS,
  );
});

test('neither a client without a window nor one that is gone holds the command up', async () => {
  await followSize({ onResize: () => {}, gone: new AbortController().signal }, () => {}, 1);
  await followSize({ onResize: () => {}, gone: AbortSignal.abort() }, () => {}, NEVER_MS);
});
