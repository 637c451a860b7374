// StatefulSets as a simulation: whatever the settings and however pods end, order and bounds hold, and it arrives.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Pod } from '#k8s/objects.ts';
import { planStateful, type StatefulInput } from './stateful-plan.ts';

interface Simulated {
  revision: string;
  ready: boolean;
  ending: boolean;
}

function podOf(ordinal: number, { revision, ready, ending }: Simulated): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `s-${ordinal}`,
      labels: { revision },
      ...(ending ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
    },
    spec: { containers: [] },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
  };
}

const inputOf = (pods: ReadonlyMap<number, Simulated>, rest: Partial<StatefulInput>): StatefulInput => ({
  replicas: 3,
  start: 0,
  ordered: true,
  strategy: { kind: 'rolling', partition: 0, maxUnavailable: 1 },
  pods: new Map([...pods].map(([ordinal, pod]) => [ordinal, podOf(ordinal, pod)])),
  revisionOf: ({ metadata }) => metadata.labels?.revision ?? '',
  currentRevision: 'old',
  updateRevision: 'new',
  minReadySeconds: 0,
  nowMs: 0,
  ...rest,
});

test('a rollout arrives from any state, in order and never with more missing than allowed', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ revision: fc.constantFrom('old', 'new'), ready: fc.boolean(), ending: fc.boolean() }),
        { maxLength: 6 },
      ),
      fc.record({
        replicas: fc.integer({ min: 0, max: 5 }),
        start: fc.integer({ min: 0, max: 2 }),
        ordered: fc.boolean(),
        partition: fc.integer({ min: 0, max: 6 }),
      }),
      (begin, { replicas, start, ordered, partition }) => {
        const pods = new Map(begin.map((pod, ordinal) => [ordinal, { ...pod }]));
        for (let round = 0; round < 60; round++) {
          const strategy = { kind: 'rolling', partition, maxUnavailable: 1 } as const;
          const available = (): number =>
            [...pods].filter(
              ([ordinal, pod]) => ordinal >= start && ordinal < start + replicas && pod.ready && !pod.ending,
            ).length;
          const before = available();
          const plan = planStateful(inputOf(pods, { replicas, start, ordered, strategy }));
          if (ordered) {
            assert.ok(plan.create.length + plan.remove.length <= 2, 'one step at a time');
            for (const { ordinal } of plan.create)
              for (let lower = start; lower < ordinal; lower++)
                assert.ok(
                  pods.get(lower)?.ready === true && pods.get(lower)?.ending === false,
                  'each waits for the one before',
                );
          }
          for (const { metadata } of plan.remove) {
            const ordinal = Number(metadata.name.slice(2));
            const pod = pods.get(ordinal) as Simulated;
            const wanted = ordinal >= start && ordinal < start + replicas;
            if (wanted && pod.ready)
              assert.equal(before, replicas, 'a serving pod is given up only when all serve');
            if (wanted) assert.ok(ordinal >= start + partition, 'nothing below the partition is replaced');
            pod.ending = true;
          }
          for (const { ordinal, revision } of plan.create) {
            assert.ok(!pods.has(ordinal), 'no name twice');
            assert.equal(revision, ordinal < start + partition ? 'old' : 'new');
            pods.set(ordinal, { revision, ready: false, ending: false });
          }
          // Then the kubelet: what ends is gone, what runs becomes ready.
          for (const [ordinal, pod] of pods) {
            if (pod.ending) pods.delete(ordinal);
            else pod.ready = true;
          }
        }
        const rest = [...pods].sort(([a], [b]) => a - b);
        assert.deepEqual(
          rest.map(([ordinal]) => ordinal),
          Array.from({ length: replicas }, (_, i) => start + i),
        );
        for (const [ordinal, { revision }] of rest)
          if (ordinal >= start + partition) assert.equal(revision, 'new');
      },
    ),
  );
});

test('a finished rollout makes the new revision the current one; an unfinished one does not', () => {
  const ready = { revision: 'new', ready: true, ending: false };
  const done = planStateful(
    inputOf(
      new Map([
        [0, ready],
        [1, ready],
        [2, ready],
      ]),
      {},
    ),
  );
  assert.equal(done.status.currentRevision, 'new');
  assert.equal(done.status.currentReplicas, 3);
  const under = planStateful(
    inputOf(
      new Map([
        [0, { ...ready, revision: 'old' }],
        [1, ready],
        [2, ready],
      ]),
      {},
    ),
  );
  assert.equal(under.status.currentRevision, 'old');
  assert.equal(under.status.updatedReplicas, 2);
  assert.deepEqual(
    under.remove.map(({ metadata }) => metadata.name),
    ['s-0'],
  );
});
