import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from './backoff.ts';
import { parseDurationMs } from './duration.ts';

test('durations as ztunnel reads them', () => {
  const cases: [string, number | undefined][] = [
    ['5s', 5000],
    ['1m30s', 90_000],
    ['500ms', 500],
    ['1h', 3_600_000],
    ['24h', 86_400_000],
    ['7', 7000],
    ['1.5s', 1500],
    ['', undefined],
    ['5 apples', undefined],
    ['-5s', undefined],
    ['s', undefined],
  ];
  for (const [text, expected] of cases) assert.equal(parseDurationMs(text), expected, JSON.stringify(text));
});

test('back-off doubles up to its limit, spreads by its jitter and starts over', () => {
  const steady = new Backoff({ initialMs: 10, maxMs: 50 });
  assert.deepEqual([steady.next(), steady.next(), steady.next(), steady.next()], [10, 20, 40, 50]);
  steady.reset();
  assert.equal(steady.next(), 10);
  const low = new Backoff({ initialMs: 100, maxMs: 1000, jitter: 0.2, random: () => 0 });
  assert.equal(low.next(), 80);
});
