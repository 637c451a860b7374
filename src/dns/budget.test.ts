import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createPendingBudget } from './budget.ts';

test('a pod has its own limit, and a greedy crowd never keeps a modest pod out', () => {
  const budget = createPendingBudget({ perPod: 4, total: 6, reserved: 2 });
  const take = (own: number, times: number): boolean[] =>
    Array.from({ length: times }, (_, index) => budget.take(own + index));
  assert.deepEqual(take(0, 5), [true, true, true, true, false], 'its own limit');
  assert.deepEqual(take(0, 3), [true, true, false], 'the total, beyond what is reserved');
  assert.deepEqual(take(0, 2), [true, true], 'what is reserved for each');
  assert.equal(budget.taken, 8);
  for (let index = 0; index < 8; index++) budget.give();
  assert.equal(budget.taken, 0);
  assert.equal(budget.take(3), true);
});
