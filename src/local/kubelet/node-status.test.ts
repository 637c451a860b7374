import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node } from '#k8s/objects.ts';
import { capacityOf } from './node-status.ts';

const node = (annotations: Record<string, string>): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'n1', annotations },
});

test('a node has the whole machine unless its object says otherwise', () => {
  const machine = { cpus: 8, memoryBytes: 2 ** 34, storageBytes: 2 ** 33 };
  const whole = { cpu: '8', memory: '16777216Ki', 'ephemeral-storage': '8388608Ki', pods: '110' };
  assert.deepEqual(capacityOf(undefined, machine), whole);
  assert.deepEqual(capacityOf(node({ 'culvert.local/power': 'off' }), machine), whole);
  assert.deepEqual(
    capacityOf(node({ 'culvert.local/cpu': '1500m', 'culvert.local/memory': '2Gi' }), machine),
    {
      ...whole,
      cpu: '1500m',
      memory: '2Gi',
    },
  );
});
