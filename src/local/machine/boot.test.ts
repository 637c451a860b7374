// What a machine that has just started says about the pods of the former one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#k8s/objects.ts';
import { stoppedStatus } from './boot.ts';

const NOW = '2026-01-02T00:00:00Z';
const pod = (status: NonNullable<Pod['status']>): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p' },
  spec: { containers: [] },
  status,
});

test('old Ready statuses stood after a restart of the machine until the kubelets had published', () => {
  const running = pod({
    phase: 'Running',
    conditions: [
      { type: 'Initialized', status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z' },
      { type: 'Ready', status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z' },
    ],
    containerStatuses: [
      {
        name: 'c',
        image: 'i',
        ready: true,
        restartCount: 2,
        containerID: 'culvert://1',
        state: { running: { startedAt: 'x' } },
      },
    ],
  });
  const status = stoppedStatus(running, NOW);
  assert.deepEqual(
    status?.conditions?.map(({ type, status: value, lastTransitionTime }) => [
      type,
      value,
      lastTransitionTime,
    ]),
    [
      ['Initialized', 'True', '2026-01-01T00:00:00Z'],
      ['Ready', 'False', NOW],
    ],
  );
  const [container] = status?.containerStatuses ?? [];
  assert.deepEqual(
    [container?.ready, container?.restartCount, container?.containerID, container?.state],
    [false, 2, 'culvert://1', { waiting: { reason: 'ContainerCreating' } }],
  );
  assert.equal(stoppedStatus(pod({ phase: 'Succeeded', conditions: [] }), NOW), undefined);
  assert.equal(stoppedStatus(pod({ phase: 'Pending', conditions: [] }), NOW), undefined);
});
