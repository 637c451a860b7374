import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#telemetry/log.ts';
import { createWorkQueue } from './queue.ts';

const deps = { log: silentLogger };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A reconcile function that the test lets go on, call by call. */
function gated() {
  const runs: string[] = [];
  const open: (() => void)[] = [];
  const reconcile = (key: string): Promise<void> => {
    runs.push(key);
    return new Promise((resolve) => open.push(resolve));
  };
  return { runs, reconcile, release: () => open.shift()?.() };
}

test('a waiting key waits once; a key that is worked on runs once more, never twice at once', async () => {
  const { runs, reconcile, release } = gated();
  const queue = createWorkQueue(deps, { name: 'test' }, reconcile);
  queue.add('a');
  queue.add('a');
  assert.deepEqual(runs, []);
  queue.start();
  assert.deepEqual(runs, ['a']);
  queue.add('a');
  queue.add('a');
  assert.deepEqual(runs, ['a']);
  release();
  await turn();
  assert.deepEqual(runs, ['a', 'a']);
  release();
  await turn();
  assert.deepEqual(runs, ['a', 'a']);
  queue.close();
});

test('no more keys at once than allowed, and a busy key does not hold up the others', async () => {
  const { runs, reconcile, release } = gated();
  const queue = createWorkQueue(deps, { name: 'test', concurrency: 2 }, reconcile);
  queue.start();
  for (const key of ['a', 'b', 'a', 'c']) queue.add(key);
  assert.deepEqual(runs, ['a', 'b']);
  release();
  await turn();
  assert.deepEqual(runs, ['a', 'b', 'a']);
  release();
  await turn();
  assert.deepEqual(runs, ['a', 'b', 'a', 'c']);
  queue.close();
});

test('a failing key comes back until it succeeds', async () => {
  let calls = 0;
  const done = new Promise<void>((resolve) => {
    const queue = createWorkQueue(deps, { name: 'test', retry: { initialMs: 1, maxMs: 2 } }, async () => {
      if (++calls < 4) throw new Error('not yet');
      queue.close();
      resolve();
    });
    queue.start();
    queue.add('a');
  });
  await done;
  assert.equal(calls, 4);
});

test('of several delays the earliest counts; nothing runs after close', async () => {
  const runs: string[] = [];
  let ran = (): void => {};
  const queue = createWorkQueue(deps, { name: 'test' }, async (key) => {
    runs.push(key);
    ran();
  });
  queue.start();
  const first = new Promise<void>((resolve) => {
    ran = resolve;
  });
  queue.addAfter('a', 3_600_000);
  queue.addAfter('a', 1);
  queue.addAfter('a', 3_600_000);
  await first;
  queue.addAfter('b', 0);
  queue.close();
  queue.add('c');
  queue.addAfter('d', 0);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(runs, ['a']);
});
