import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../../test/lib/until.ts';
import { createWorkQueue } from './work-queue.ts';

const RETRY = { initialMs: 1, maxMs: 4 };

test('one run at a time per key; what is asked for meanwhile runs once more', async () => {
  const gates: (() => void)[] = [];
  let active = 0;
  let runs = 0;
  const third = Promise.withResolvers<void>();
  const queue = createWorkQueue(
    {
      run: async () => {
        assert.equal(++active, 1);
        if (++runs === 3) third.resolve();
        await new Promise<void>((resolve) => gates.push(resolve));
        active--;
      },
      onFailure: () => assert.fail('nothing failed'),
    },
    { concurrency: 8, retry: RETRY },
  );
  queue.schedule('a');
  queue.schedule('a');
  await until('the first run', () => gates.length === 1);
  for (let times = 0; times < 5; times++) queue.schedule('a');
  gates[0]!();
  await until('the second run', () => gates.length === 2);
  assert.equal(runs, 2);
  // Exclusive work waits for the run, and holds the next one off.
  const order: string[] = [];
  const exclusive = queue.exclusive('a', async () => {
    order.push(`exclusive with ${active} active`);
    return 'value';
  });
  queue.schedule('a');
  gates[1]!();
  assert.equal(await exclusive, 'value');
  await third.promise;
  assert.deepEqual(order, ['exclusive with 0 active']);
  gates[2]!();
  await queue.close();
});

test('a failure is retried until it succeeds, with growing pauses; another key is not held up', async () => {
  const pauses: number[] = [];
  let failures = 4;
  const done = new Set<string>();
  const queue = createWorkQueue(
    {
      run: async (key) => {
        if (key === 'bad' && failures-- > 0) throw new Error('not yet');
        done.add(key);
      },
      onFailure: (_key, _error, retryMs) => pauses.push(retryMs),
    },
    { concurrency: 1, retry: RETRY },
  );
  queue.schedule('bad');
  queue.schedule('good');
  await until('both are done', () => done.size === 2);
  assert.deepEqual(pauses, [1, 2, 4, 4]);
  await queue.close();
});

test('no more than the allowed number run at once, and nothing starts after close', async () => {
  let active = 0;
  let most = 0;
  let total = 0;
  const queue = createWorkQueue(
    {
      run: async () => {
        most = Math.max(most, ++active);
        await new Promise((resolve) => setImmediate(resolve));
        active--;
        total++;
      },
      onFailure: () => {},
    },
    { concurrency: 3, retry: RETRY },
  );
  for (let key = 0; key < 20; key++) queue.schedule(`${key}`);
  await until('all have run', () => total === 20);
  assert.equal(most, 3);
  await queue.close();
  queue.schedule('late');
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(total, 20);
});

test('a slot that becomes free goes to who waited, whoever asks in the same moment', async () => {
  for (let delay = 0; delay < 10; delay++) {
    let running = 0;
    let most = 0;
    const done = Promise.withResolvers<void>();
    const queue = createWorkQueue(
      {
        async run(key) {
          most = Math.max(most, ++running);
          await new Promise((resolve) => setImmediate(resolve));
          running--;
          if (key === 'late') done.resolve();
          if (key === 'first') void askLater();
        },
        onFailure: (_key, error) => done.reject(error),
      },
      { concurrency: 1, retry: { initialMs: 1, maxMs: 1, jitter: 0 } },
    );
    async function askLater(): Promise<void> {
      for (let turn = 0; turn < delay; turn++) await Promise.resolve();
      queue.schedule('late');
    }
    queue.schedule('first');
    queue.schedule('waiting');
    await done.promise;
    await queue.close();
    assert.equal(most, 1, `asked after ${delay} turns`);
  }
});
