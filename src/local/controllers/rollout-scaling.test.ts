import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isScaling, planScaling, type ScaledSet } from './rollout-scaling.ts';

const set = (replicas: number, over: Partial<ScaledSet> = {}): ScaledSet => ({
  replicas,
  available: replicas,
  isCurrent: false,
  bornMs: 0,
  desiredBefore: 10,
  maxBefore: 13,
  ...over,
});
const scale = (desired: number, maxSurge: number, ...sets: ScaledSet[]): number[] =>
  planScaling({ desired, maxSurge, rolling: true, present: 0, sets });

test('the example of the Kubernetes documentation: 10 become 15 in the middle of a roll-out', () => {
  // "Proportional scaling": maxSurge 3; 8 of the old template and 5 of the new make 13; of the 5 added 3 go to the old and 2 to
  // the new one. 15 and a surge of 3 are 18.
  assert.deepEqual(scale(15, 3, set(8), set(5, { isCurrent: true })), [11, 7]);
});

test('the cases of the Kubernetes controller', () => {
  // One set with pods: it is scaled, whichever it is.
  assert.deepEqual(scale(12, 0, set(10), set(0, { isCurrent: true })), [12, 0]);
  assert.deepEqual(scale(10, 0, set(0), set(0, { isCurrent: true })), [0, 10]);
  assert.deepEqual(scale(10, 0, set(0), set(0)), [0, 10]);
  // From 10 to 12 by halves; and down to 6 from 5 and 5.
  const before = { desiredBefore: 10, maxBefore: 10 };
  assert.deepEqual(scale(12, 0, set(5, before), set(5, { ...before, isCurrent: true })), [6, 6]);
  assert.deepEqual(scale(6, 0, set(5, before), set(5, { ...before, isCurrent: true })), [3, 3]);
  // Of equal sets the newer grows first and the older shrinks first.
  const [older, newer] = [
    set(1, { ...before, bornMs: 1, maxBefore: 2 }),
    set(1, { ...before, bornMs: 2, maxBefore: 2 }),
  ];
  assert.deepEqual(scale(3, 0, older, newer), [1, 2]);
  assert.deepEqual(scale(1, 0, older, newer), [0, 1]);
  // To nothing: every one.
  assert.deepEqual(scale(0, 3, set(8), set(5, { isCurrent: true })), [0, 0]);
  // The new one is complete: the old ones go.
  const done = set(10, { isCurrent: true, maxBefore: 10 });
  assert.deepEqual(scale(10, 0, set(3), done), [0, 10]);
  // Nothing noted on the sets: the status is the measure.
  const unnoted = { desiredBefore: undefined, maxBefore: undefined };
  assert.deepEqual(
    planScaling({
      desired: 20,
      maxSurge: 0,
      rolling: true,
      present: 10,
      sets: [set(4, unnoted), set(6, unnoted)],
    }),
    [8, 12],
  );
  // Recreate spreads nothing.
  assert.deepEqual(
    planScaling({ desired: 20, maxSurge: 0, rolling: false, present: 10, sets: [set(4), set(6)] }),
    [4, 6],
  );
});

test('in a roll-out that has used its surge the sum is what is allowed, and only sets with pods change', () => {
  fc.assert(
    fc.property(
      fc.nat(30),
      fc.nat(5),
      fc.array(fc.record({ replicas: fc.nat(12), bornMs: fc.nat(9) }), { minLength: 2, maxLength: 5 }),
      (desired, surge, shapes) => {
        const maxBefore = shapes.reduce((sum, { replicas }) => sum + replicas, 0);
        const sets = shapes.map(({ replicas, bornMs }) => set(replicas, { bornMs, maxBefore, available: 0 }));
        const sizes = scale(desired, surge, ...sets);
        assert.ok(sizes.every((size) => size >= 0));
        if (sets.filter(({ replicas }) => replicas > 0).length < 2) return;
        assert.equal(
          sizes.reduce((sum, size) => sum + size, 0),
          desired === 0 ? 0 : desired + surge,
        );
        for (const [index, { replicas }] of sets.entries()) if (replicas === 0) assert.equal(sizes[index], 0);
      },
    ),
  );
});

test('a change is one of the number that the sets were scaled to, not of anything else', () => {
  assert.equal(isScaling(10, [set(8), set(5)]), false);
  assert.equal(isScaling(11, [set(8), set(5)]), true);
  assert.equal(isScaling(11, [set(0), set(5, { desiredBefore: undefined })]), false);
});
