import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#k8s/objects.ts';
import {
  type ContainerRecord,
  keepTransitionTimes,
  type PodView,
  podOutcome,
  podPhase,
  podStatus,
} from './pod-status.ts';

const NOW = '2026-01-01T00:00:00.000Z';
const record = (change: Partial<ContainerRecord>): ContainerRecord => ({
  phase: { kind: 'waiting', reason: 'ContainerCreating' },
  restartCount: 0,
  ready: false,
  started: false,
  ...change,
});
const waiting = record({});
const running = record({
  phase: { kind: 'running', startedAt: NOW, containerId: 'c' },
  ready: true,
  started: true,
});
const ended = (exitCode: number): ContainerRecord =>
  record({ phase: { kind: 'terminated', run: { exitCode, reason: 'x', finishedAt: NOW } } });
const backingOff = record({
  phase: { kind: 'waiting', reason: 'CrashLoopBackOff' },
  last: { exitCode: 1, reason: 'Error', finishedAt: NOW },
});

function view(
  policy: 'Always' | 'OnFailure' | 'Never',
  records: readonly ContainerRecord[],
  init: readonly ContainerRecord[] = [],
): PodView {
  const names = (prefix: string, list: readonly ContainerRecord[]) =>
    list.map((_, index) => ({ name: `${prefix}${index}`, image: 'local/shell' }));
  const pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p' },
    spec: { restartPolicy: policy, containers: names('c', records), initContainers: names('i', init) },
  };
  return {
    pod,
    records: new Map(records.map((item, index) => [`c${index}`, item])),
    initRecords: new Map(init.map((item, index) => [`i${index}`, item])),
    podIps: ['10.244.1.2'],
    hostIps: ['172.31.0.11'],
    startTime: NOW,
  };
}

test('phases', () => {
  assert.equal(podPhase(view('Always', [waiting])), 'Pending');
  assert.equal(podPhase(view('Always', [running, waiting])), 'Pending');
  assert.equal(podPhase(view('Always', [running, running])), 'Running');
  assert.equal(podPhase(view('Always', [running, backingOff])), 'Running');
  assert.equal(podPhase(view('Never', [ended(0), running])), 'Running');
  assert.equal(podPhase(view('Never', [ended(0), ended(0)])), 'Succeeded');
  assert.equal(podPhase(view('Never', [ended(0), ended(2)])), 'Failed');
  assert.equal(podPhase(view('OnFailure', [ended(0)])), 'Succeeded');
  assert.equal(podPhase(view('Always', [waiting], [running])), 'Pending');
  assert.equal(podPhase(view('Never', [waiting], [ended(1)])), 'Failed');
  assert.equal(podPhase(view('Always', [running], [ended(0)])), 'Running');
});

test('a pod with a sidecar was called Succeeded while that still ran', () => {
  const over = view('Never', [ended(0)], [running]);
  assert.equal(podOutcome(over), 'Succeeded');
  assert.equal(podPhase(over), 'Running');
  const late = { ...view('Never', [running]), failure: { reason: 'DeadlineExceeded', message: '' } };
  assert.equal(podOutcome(late), 'Failed');
  assert.equal(podPhase(late), 'Running');
  assert.equal(podPhase({ ...late, records: view('Never', [ended(143)]).records }), 'Failed');
});

test('readiness and initialisation as conditions', () => {
  const status = podStatus(view('Always', [running, waiting], [ended(0)]), NOW);
  const conditions = Object.fromEntries(
    (status.conditions ?? []).map(({ type, status: value }) => [type, value]),
  );
  assert.deepEqual(conditions, {
    PodReadyToStartContainers: 'True',
    Initialized: 'True',
    Ready: 'False',
    ContainersReady: 'False',
    PodScheduled: 'True',
  });
  assert.equal(
    status.conditions?.find(({ type }) => type === 'Ready')?.message,
    'containers with unready status: [c1]',
  );
  assert.equal(status.podIP, '10.244.1.2');
  assert.deepEqual(status.podIPs, [{ ip: '10.244.1.2' }]);
});

test('before the init containers are done the others are PodInitializing', () => {
  const base = view('Always', [waiting], [running]);
  const status = podStatus({ ...base, records: new Map() }, NOW);
  assert.deepEqual(status.containerStatuses?.[0]?.state, { waiting: { reason: 'PodInitializing' } });
});

test('the time of a condition changes with its status only; conditions of others stay', () => {
  const before = '2025-01-01T00:00:00.000Z';
  const kept = keepTransitionTimes(
    [
      { type: 'Ready', status: 'True' },
      { type: 'Initialized', status: 'True' },
    ],
    [
      { type: 'Ready', status: 'False', lastTransitionTime: before },
      { type: 'Initialized', status: 'True', lastTransitionTime: before },
      { type: 'example.com/gate', status: 'True', lastTransitionTime: before },
    ],
    NOW,
  );
  assert.deepEqual(
    kept.map(({ type, lastTransitionTime }) => [type, lastTransitionTime]),
    [
      ['Ready', NOW],
      ['Initialized', before],
      ['example.com/gate', before],
    ],
  );
});
