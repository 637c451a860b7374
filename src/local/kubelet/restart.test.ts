import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delayAfterEnd, formatDelay, NO_DELAY, shouldRestart } from './restart.ts';

test('at once, then 10 s doubling to five minutes', () => {
  let delay = NO_DELAY;
  const waits: number[] = [];
  for (let end = 0; end < 8; end++) {
    const next = delayAfterEnd(delay, 1000);
    waits.push(next.waitMs);
    delay = next.delay;
  }
  assert.deepEqual(waits, [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
});

test('ten minutes of running forget the past', () => {
  const { waitMs, delay } = delayAfterEnd({ nextMs: 160_000 }, 600_000);
  assert.equal(waitMs, 0);
  assert.equal(delayAfterEnd(delay, 0).waitMs, 10_000);
});

test('policies', () => {
  const table = (['Always', 'OnFailure', 'Never'] as const).map((policy) => [
    shouldRestart(policy, 0),
    shouldRestart(policy, 1),
  ]);
  assert.deepEqual(table, [
    [true, true],
    [false, true],
    [false, false],
  ]);
});

test('delays are written as the field writes them', () => {
  assert.deepEqual([10_000, 80_000, 300_000].map(formatDelay), ['10s', '1m20s', '5m0s']);
});
