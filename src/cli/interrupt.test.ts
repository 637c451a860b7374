import assert from 'node:assert/strict';
import { test } from 'node:test';
import { interruptHandler } from './interrupt.ts';

function pressedAt(...timesMs: number[]): string[] {
  const heard: string[] = [];
  let nowMs = 0;
  const press = interruptHandler({
    monotonicMs: () => nowMs,
    inOrder: () => heard.push('in order'),
    atOnce: () => heard.push('at once'),
  });
  for (nowMs of timesMs) press();
  return heard;
}

test('the first Ctrl-C ends in order, the second at once', () => {
  assert.deepEqual(pressedAt(7000), ['in order']);
  assert.deepEqual(pressedAt(7000, 7900), ['in order', 'at once']);
});

test('a Ctrl-C under npm, which comes twice, is one', () => {
  assert.deepEqual(pressedAt(7000, 7000), ['in order']);
  assert.deepEqual(pressedAt(7000, 7030, 7060), ['in order']);
  assert.deepEqual(pressedAt(7000, 7030, 8000), ['in order', 'at once']);
});
