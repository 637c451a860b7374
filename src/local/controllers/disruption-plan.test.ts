// The arithmetic of PodDisruptionBudgets, by hand from the documentation of policy/v1.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod, PodDisruptionBudget } from '#k8s/objects.ts';
import { budgetStatus } from './disruption-plan.ts';

const pod = (name: string, ready = true, ending = false): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, ...(ending ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}) },
  spec: { containers: [] },
  status: { conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
});
const NOW = Date.parse('2026-01-01T00:10:00Z');
const count = (
  spec: PodDisruptionBudget['spec'],
  pods: Pod[],
  wanted: number | undefined,
  disruptedPods: Record<string, string> = {},
) =>
  budgetStatus({
    budget: {
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata: { name: 'b' },
      spec,
      status: { disruptedPods },
    },
    pods,
    wanted,
    nowMs: NOW,
  });
const five = ['a', 'b', 'c', 'd', 'e'].map((name) => pod(name));

test('numbers and shares, rounded so that more stay', () => {
  const cases: [PodDisruptionBudget['spec'], desired: number, allowed: number][] = [
    [{ minAvailable: 3 }, 3, 2],
    [{ minAvailable: '50%' }, 3, 2],
    [{ minAvailable: '100%' }, 5, 0],
    [{ maxUnavailable: 1 }, 4, 1],
    [{ maxUnavailable: '30%' }, 3, 2],
    [{ maxUnavailable: 0 }, 5, 0],
    [{ maxUnavailable: 9 }, 0, 5],
    [{}, 1, 4],
  ];
  for (const [spec, desired, allowed] of cases) {
    const status = count(spec, five, 5);
    assert.deepEqual(
      [status.desiredHealthy, status.disruptionsAllowed],
      [desired, allowed],
      JSON.stringify(spec),
    );
  }
});

test('what is not ready, ends or was just evicted is not healthy', () => {
  const pods = [pod('a'), pod('b', false), pod('c', true, true), pod('d'), pod('e')];
  assert.equal(count({ minAvailable: 1 }, pods, 5).currentHealthy, 3);
  const evicted = count({ minAvailable: 1 }, pods, 5, {
    a: '2026-01-01T00:09:30Z',
    gone: '2026-01-01T00:09:30Z',
  });
  assert.equal(evicted.currentHealthy, 2);
  assert.deepEqual(evicted.disruptedPods, { a: '2026-01-01T00:09:30Z' });
  assert.equal(evicted.recheckInMs, 90_000);
  assert.equal(
    count({ minAvailable: 1 }, pods, 5, { a: '2026-01-01T00:07:00Z' }).disruptedPods,
    undefined,
    'too long ago',
  );
});

test('the wish counts, not what is there; without a wish nothing may go', () => {
  assert.equal(count({ maxUnavailable: 1 }, five.slice(0, 3), 5).disruptionsAllowed, 0);
  const bare = count({ maxUnavailable: 1 }, five, undefined);
  assert.equal(bare.disruptionsAllowed, 0);
  assert.match(bare.problem ?? '', /no controller/);
  assert.equal(
    count({ minAvailable: 2 }, five, undefined).disruptionsAllowed,
    3,
    'a fixed minimum needs no wish',
  );
  assert.equal(count({ minAvailable: 0 }, [], 0).disruptionsAllowed, 0);
});
