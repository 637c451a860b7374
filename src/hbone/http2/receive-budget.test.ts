import assert from 'node:assert/strict';
import { it } from 'node:test';
import { FloodGuard } from './flood-guard.ts';
import { ReceiveBudget, streamWindow, TUNNEL_BUDGET_BYTES } from './receive-budget.ts';

const MIB = 1 << 20;

it('more streams must stall than a tunnel has before its budget is used up', () => {
  let unread = 0;
  let streams = 0;
  while (unread < TUNNEL_BUDGET_BYTES) {
    unread += streamWindow(unread, false);
    streams += 1;
  }
  assert.equal(streams, 256);
});

it('a process that is short of memory gives everybody small windows', () => {
  const budget = new ReceiveBudget(100);
  assert.equal(streamWindow(0, budget.isTight), 4 * MIB);
  budget.add(51);
  assert.equal(streamWindow(0, budget.isTight), 64 << 10);
  assert.equal(budget.tunnelBytes, MIB);
  assert.equal(budget.isExceeded, false);
  budget.add(50);
  assert.equal(budget.isExceeded, true);
  budget.add(-101);
  assert.equal(budget.isTight, false);
});

it('threads that share the sum are short of memory together', () => {
  const shared = new Int32Array(new SharedArrayBuffer(4));
  const [one, other] = [new ReceiveBudget(100, shared), new ReceiveBudget(100, shared)];
  one.add(51);
  assert.equal(other.isTight, true);
  other.add(50);
  assert.deepEqual([one.isExceeded, one.unreadBytes], [true, 101]);
  one.add(-101);
  assert.equal(other.isTight, false);
});

it('a flood is cut off, a thousand a second are not', () => {
  let nowMs = 0;
  const honest = new FloodGuard(() => nowMs);
  for (let second = 0; second < 60; second++) {
    nowMs += 1000;
    for (let each = 0; each < 1000; each++) honest.take('resets');
  }
  const flood = new FloodGuard(() => 0);
  for (let each = 0; each < 10_000; each++) flood.take('resets');
  assert.throws(() => flood.take('resets'), { code: 11, message: 'the peer floods us with resets' });
});
