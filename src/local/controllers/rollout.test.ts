import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { planRecreate, planRollingUpdate, resolveCount, resolveRollingUpdate } from './rollout.ts';

test('counts: numbers stay, percentages are rounded as asked', () => {
  assert.equal(resolveCount(2, 10, 'up', 0), 2);
  assert.equal(resolveCount('3', 10, 'up', 0), 3);
  assert.equal(resolveCount('25%', 10, 'up', 0), 3);
  assert.equal(resolveCount('25%', 10, 'down', 0), 2);
  assert.equal(resolveCount(undefined, 4, 'up', '25%'), 1);
  assert.deepEqual(resolveRollingUpdate(undefined, 1), { maxSurge: 1, maxUnavailable: 0 });
  assert.deepEqual(resolveRollingUpdate(undefined, 8), { maxSurge: 2, maxUnavailable: 2 });
  assert.deepEqual(resolveRollingUpdate({ maxSurge: 0, maxUnavailable: 0 }, 8), {
    maxSurge: 0,
    maxUnavailable: 1,
  });
  assert.deepEqual(resolveRollingUpdate({ maxSurge: 0, maxUnavailable: '10%' }, 5), {
    maxSurge: 0,
    maxUnavailable: 1,
  });
});

const plan = (
  desired: number,
  [maxSurge, maxUnavailable]: [number, number],
  current: [number, number],
  ...old: [number, number][]
) => {
  const counts = ([replicas, available]: [number, number]) => ({ replicas, available });
  return planRollingUpdate({
    desired,
    maxSurge,
    maxUnavailable,
    current: counts(current),
    old: old.map(counts),
  });
};

test('steps of a rollout', () => {
  // First rollout: everything at once.
  assert.deepEqual(plan(3, [1, 1], [0, 0]), { current: 3, old: [] });
  // One new beside three old; surge 1, none may be missing.
  assert.deepEqual(plan(3, [1, 0], [0, 0], [3, 3]), { current: 1, old: [3] });
  // The new one is not available: wait.
  assert.deepEqual(plan(3, [1, 0], [1, 0], [3, 3]), { current: 1, old: [3] });
  // It is: one old goes, room comes with the next step.
  assert.deepEqual(plan(3, [1, 0], [1, 1], [3, 3]), { current: 1, old: [2] });
  assert.deepEqual(plan(3, [1, 0], [1, 1], [2, 2]), { current: 2, old: [2] });
  // One may be missing: an old one goes at once.
  assert.deepEqual(plan(3, [1, 1], [0, 0], [3, 3]), { current: 1, old: [2] });
  // Old pods that serve nobody go first, whichever set they are in.
  assert.deepEqual(plan(3, [1, 1], [1, 0], [1, 1], [2, 0]), { current: 1, old: [1, 1] });
  // Oldest first among the healthy.
  assert.deepEqual(plan(4, [0, 2], [0, 0], [2, 2], [2, 2]), { current: 0, old: [0, 2] });
  // Scaled down in the middle, scaled to nothing.
  assert.deepEqual(plan(2, [1, 1], [5, 5]), { current: 2, old: [] });
  assert.deepEqual(plan(0, [0, 0], [1, 1], [2, 2]), { current: 0, old: [0] });
  // A broken new template never takes the old one's place.
  assert.deepEqual(plan(4, [1, 1], [2, 0], [3, 3]), { current: 2, old: [3] });
});

const counts = fc
  .record({ replicas: fc.nat(8), unavailable: fc.nat(8) })
  .map(({ replicas, unavailable }) => ({ replicas, available: Math.max(0, replicas - unavailable) }));

test('the bounds hold at every step', () => {
  fc.assert(
    fc.property(
      fc.nat(8),
      fc.nat(4),
      fc.nat(4),
      counts,
      fc.array(counts, { maxLength: 3 }),
      (desired, surge, unavailable, current, old) => {
        const maxUnavailable = Math.min(desired, surge === 0 && unavailable === 0 ? 1 : unavailable);
        const next = planRollingUpdate({ desired, maxSurge: surge, maxUnavailable, current, old });
        const before = current.replicas + old.reduce((sum, { replicas }) => sum + replicas, 0);
        const after = next.current + next.old.reduce((sum, replicas) => sum + replicas, 0);
        assert.ok(next.current <= desired);
        assert.ok(next.current <= current.replicas || after <= Math.max(before, desired + surge));
        assert.ok(next.old.every((replicas, at) => replicas >= 0 && replicas <= (old[at]?.replicas ?? 0)));
        // What is surely available afterwards: the sets give up their unavailable pods first.
        const availableBefore = current.available + old.reduce((sum, { available }) => sum + available, 0);
        const availableAfter =
          Math.min(current.available, next.current) +
          old.reduce((sum, { available }, at) => sum + Math.min(available, next.old[at] ?? 0), 0);
        const surplus = Math.max(0, current.replicas - desired);
        assert.ok(availableAfter >= Math.min(availableBefore - surplus, desired - maxUnavailable));
      },
    ),
  );
});

test('a rollout whose new pods become available always ends', () => {
  fc.assert(
    fc.property(
      fc.nat(6),
      fc.nat(3),
      fc.nat(3),
      fc.array(counts, { maxLength: 3 }),
      (desired, surge, unavailable, old) => {
        const maxUnavailable = Math.min(desired, surge === 0 && unavailable === 0 ? 1 : unavailable);
        if (surge === 0 && maxUnavailable === 0 && desired > 0) return;
        let state = { current: { replicas: 0, available: 0 }, old };
        for (let step = 0; step < 100; step++) {
          const next = planRollingUpdate({ desired, maxSurge: surge, maxUnavailable, ...state });
          state = {
            current: { replicas: next.current, available: next.current },
            old: next.old.map((replicas, at) => ({
              replicas,
              available: Math.min(replicas, state.old[at]?.available ?? 0),
            })),
          };
        }
        assert.equal(state.current.replicas, desired);
        assert.ok(state.old.every(({ replicas }) => replicas === 0));
      },
    ),
  );
});

test('recreate: nothing new while anything old is left', () => {
  assert.deepEqual(planRecreate({ desired: 3, current: 0, oldPodsLeft: true }), { current: 0, old: 0 });
  assert.deepEqual(planRecreate({ desired: 3, current: 0, oldPodsLeft: false }), { current: 3, old: 0 });
});
