// What is held of a pod: all that the mesh is computed from, and no more.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod } from '#k8s/objects.ts';
import { keptOfNode, keptOfPod, withoutBallast } from './kept-fields.ts';

test('of a pod', () => {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'web-1',
      namespace: 'shop',
      uid: 'u',
      resourceVersion: '7',
      generateName: 'web-',
      finalizers: ['x'],
      labels: { app: 'web' },
      annotations: {
        'ambient.istio.io/redirection': 'enabled',
        'kubectl.kubernetes.io/last-applied-configuration': '{…}',
      },
      ownerReferences: [
        { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid: 'r', controller: true },
      ],
    },
    spec: {
      nodeName: 'n1',
      serviceAccountName: 'web',
      hostNetwork: true,
      restartPolicy: 'Always',
      volumes: [{ name: 'v', emptyDir: {} }],
      containers: [
        { name: 'quiet', image: 'i', env: [{ name: 'A', value: 'b' }] },
        { name: 'web', image: 'i', ports: [{ name: 'http', containerPort: 8080 }], command: ['x'] },
      ],
      initContainers: [
        { name: 'once', image: 'i', ports: [{ name: 'no', containerPort: 1 }] },
        { name: 'side', image: 'i', restartPolicy: 'Always', ports: [{ name: 'yes', containerPort: 2 }] },
      ],
    },
    status: {
      phase: 'Running',
      podIP: '10.0.0.1',
      podIPs: [{ ip: '10.0.0.1' }],
      hostIP: '172.0.0.1',
      conditions: [
        { type: 'Ready', status: 'True', lastTransitionTime: 't' },
        { type: 'Initialized', status: 'True' },
      ],
      containerStatuses: [{ name: 'web', image: 'i', ready: true, restartCount: 0 }],
    },
  } as unknown as Pod;
  assert.deepEqual(keptOfPod(pod), {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'web-1',
      namespace: 'shop',
      uid: 'u',
      resourceVersion: '7',
      generateName: 'web-',
      labels: { app: 'web' },
      annotations: { 'ambient.istio.io/redirection': 'enabled' },
      ownerReferences: [
        { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid: 'r', controller: true },
      ],
    },
    spec: {
      nodeName: 'n1',
      serviceAccountName: 'web',
      hostNetwork: true,
      containers: [{ name: 'web', image: 'i', ports: [{ name: 'http', containerPort: 8080 }] }],
      initContainers: [
        { name: 'side', image: 'i', restartPolicy: 'Always', ports: [{ name: 'yes', containerPort: 2 }] },
      ],
    },
    status: {
      phase: 'Running',
      podIP: '10.0.0.1',
      podIPs: [{ ip: '10.0.0.1' }],
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  });
});

test('of a node that reports much, of anything that was applied', () => {
  const metadata = { name: 'n1', labels: { 'topology.kubernetes.io/zone': 'z' } };
  const taints = [{ key: 'cni.istio.io/not-ready', effect: 'NoSchedule' }];
  const node: Node = {
    apiVersion: 'v1',
    kind: 'Node',
    metadata,
    spec: { taints, podCIDR: '10.0.0.0/24' },
    status: { capacity: { cpu: '8' } },
  };
  assert.deepEqual(keptOfNode(node), { apiVersion: 'v1', kind: 'Node', metadata, spec: { taints } });
  const applied = { 'kubectl.kubernetes.io/last-applied-configuration': '{…}', kept: 'yes' };
  assert.deepEqual(
    withoutBallast({ apiVersion: 'v1', kind: 'X', metadata: { name: 'x', annotations: applied } }).metadata,
    { name: 'x', annotations: { kept: 'yes' } },
  );
});
