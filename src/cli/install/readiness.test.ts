import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeClient } from '#k8s/client.ts';
import type { DaemonSet, Deployment, KubeObject, Pod } from '#k8s/objects.ts';
import { podProblem, unreadyReason, waitUntilReady } from './readiness.ts';

const template = { spec: { containers: [] } };
const deployment = (status: Record<string, unknown>, replicas = 2): Deployment => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'istiod', namespace: 'istio-system', generation: 3 },
  spec: { replicas, selector: { matchLabels: { app: 'istiod' } }, template },
  status: { observedGeneration: 3, ...status },
});
const daemonSet = (status: Record<string, unknown>): DaemonSet => ({
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  metadata: { name: 'ztunnel', namespace: 'istio-system', generation: 1 },
  spec: { selector: { matchLabels: { app: 'ztunnel' } }, template },
  status: { observedGeneration: 1, ...status },
});

test('a deployment is ready when every replica runs the newest template', () => {
  const whole = { replicas: 2, updatedReplicas: 2, readyReplicas: 2 };
  assert.equal(unreadyReason(deployment(whole)), undefined);
  assert.match(unreadyReason(deployment({ ...whole, observedGeneration: 2 })) ?? '', /not looked at/);
  assert.match(unreadyReason(deployment({ ...whole, updatedReplicas: 1 })) ?? '', /1 of 2 .* newest/);
  assert.match(unreadyReason(deployment({ ...whole, readyReplicas: 1 })) ?? '', /1 of 2 pods are ready/);
  assert.match(unreadyReason(deployment({ ...whole, replicas: 3 })) ?? '', /1 old pods/);
  assert.match(unreadyReason(deployment({})) ?? '', /0 of 2/);
});

test('a daemon set is ready when it runs on every node, and never without a node', () => {
  const whole = {
    desiredNumberScheduled: 2,
    currentNumberScheduled: 2,
    updatedNumberScheduled: 2,
    numberReady: 2,
  };
  assert.equal(unreadyReason(daemonSet(whole)), undefined);
  assert.match(unreadyReason(daemonSet({ ...whole, numberReady: 1 })) ?? '', /1 of 2/);
  assert.match(unreadyReason(daemonSet({})) ?? '', /no node/);
});

const pod = (status: Pod['status']): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'istiod-x', namespace: 'istio-system' },
  spec: { containers: [] },
  ...(status === undefined ? {} : { status }),
});
const container = { name: 'discovery', image: 'i', ready: false, restartCount: 3 };

test('what keeps a pod is told in the words of its status', () => {
  assert.equal(podProblem(pod({ conditions: [{ type: 'Ready', status: 'True' }] })), undefined);
  const cases: readonly [Pod['status'], RegExp][] = [
    [undefined, /still starting/],
    [{ phase: 'Failed', message: 'evicted' }, /failed: evicted/],
    [
      { conditions: [{ type: 'PodScheduled', status: 'False', message: '0/2 nodes are available' }] },
      /no node takes it: 0\/2 nodes/,
    ],
    [
      {
        containerStatuses: [
          { ...container, state: { waiting: { reason: 'ErrImagePull', message: 'not found' } } },
        ],
      },
      /container discovery waits: ErrImagePull: not found/,
    ],
    [
      {
        containerStatuses: [
          {
            ...container,
            state: { waiting: { reason: 'CrashLoopBackOff' } },
            lastState: { terminated: { exitCode: 1 } },
          },
        ],
      },
      /CrashLoopBackOff \(ended with code 1, 3 restarts\)/,
    ],
    [
      { phase: 'Running', containerStatuses: [{ ...container, state: { running: { startedAt: '' } } }] },
      /readiness probe fails/,
    ],
  ];
  for (const [status, pattern] of cases) assert.match(podProblem(pod(status)) ?? '', pattern);
});

test('a wait in vain names workload, pod and reason', async () => {
  const stuck = deployment({ replicas: 1, updatedReplicas: 1 }, 1);
  const failing = pod({
    containerStatuses: [
      { ...container, state: { waiting: { reason: 'ErrImagePull', message: 'no such image' } } },
    ],
  });
  const client = {
    get: () => Promise.resolve(stuck),
    list: () => Promise.resolve({ items: [failing], resourceVersion: '1' }),
  } as unknown as KubeClient;
  await assert.rejects(
    waitUntilReady(client, [stuck], { limitMs: 1 }),
    /deployment istiod: 0 of 1 pods are ready \(pod istiod-x: container discovery waits: ErrImagePull: no such image\)/,
  );
});

test('a wait ends as soon as everything is ready', async () => {
  let looks = 0;
  const client = {
    get: (): Promise<KubeObject> => {
      looks += 1;
      return Promise.resolve(
        deployment({ replicas: 1, updatedReplicas: 1, readyReplicas: looks > 2 ? 1 : 0 }, 1),
      );
    },
  } as unknown as KubeClient;
  await waitUntilReady(client, [deployment({})], { limitMs: 60_000 });
  assert.equal(looks, 3);
});
