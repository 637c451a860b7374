import assert from 'node:assert/strict';
import { test } from 'node:test';
import { styleFor } from '../style.ts';
import { renderTimeLine } from './time-line.ts';

test('steps in the order of their beginning, bars to scale, never invisible', () => {
  const lines = renderTimeLine(
    [
      { name: 'shop', startMs: 1000, endMs: 4000 },
      { name: 'machine', startMs: 0, endMs: 1000 },
      { name: 'blink', startMs: 3999, endMs: 4000 },
    ],
    styleFor(false, {}),
  );
  assert.deepEqual(lines.slice(1), [
    `  machine   0.00   1.00  ${'█'.repeat(10)}`,
    `  shop      1.00   4.00  ${' '.repeat(10)}${'█'.repeat(30)}`,
    `  blink     4.00   4.00  ${' '.repeat(39)}█`,
  ]);
  assert.match(lines[0] ?? '', /Time line/);
});
