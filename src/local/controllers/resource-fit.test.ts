import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container, Node, Pod, PodSpec } from '#k8s/objects.ts';
import { placePod } from './placement.ts';
import { podRequests } from './resource-fit.ts';

type Requests = Record<string, string | number>;
const container = (name: string, requests: Requests, more: Partial<Container> = {}): Container => ({
  name,
  image: 'i',
  resources: { requests },
  ...more,
});
const pod = (name: string, spec: Partial<PodSpec> | Requests): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'ns', uid: name },
  spec: 'containers' in spec ? (spec as PodSpec) : { containers: [container('c', spec as Requests)] },
});
const on = (node: string, of: Pod): Pod => ({ ...of, spec: { ...of.spec, nodeName: node } });
const node = (name: string, allocatable: Record<string, string>): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name },
  status: { conditions: [{ type: 'Ready', status: 'True' }], allocatable },
});
const place = (wanting: Pod, nodes: Node[], pods: Pod[] = []): string => {
  const placement = placePod(wanting, nodes, pods);
  return placement.kind === 'node' ? placement.node : placement.reason;
};

test('a pod needs what its containers and sidecars need together, or its hungriest moment before', () => {
  // k8s.io/component-helpers/resource: init containers run one by one, each beside the sidecars that were started before it.
  const requests = podRequests({
    containers: [container('a', { cpu: '200m', memory: '1Gi' }), container('b', { cpu: 0.3 })],
    initContainers: [
      container('first', { cpu: '900m', memory: '3Gi' }),
      container('sidecar', { cpu: '100m', memory: '512Mi' }, { restartPolicy: 'Always' }),
      container('last', { cpu: '850m', memory: '1Gi' }),
    ],
  });
  // 200 + 300 + 100 against 900, and against 850 + 100.
  assert.equal(requests.get('cpu'), 950);
  // 1 GiB + 0.5 GiB against 3 GiB.
  assert.equal(requests.get('memory'), 3 * 2 ** 30);
});

test('what is said of the pod counts in place of the sum; overhead comes on top', () => {
  const requests = podRequests({
    containers: [container('a', { cpu: '200m', memory: '1Gi' })],
    resources: { requests: { cpu: '1500m' } },
    overhead: { cpu: '250m' },
  });
  assert.deepEqual(Object.fromEntries(requests), { cpu: 1750, memory: 2 ** 30 });
});

test('a pod goes where its requests fit, to the last thousandth, and nowhere else', () => {
  const nodes = [node('a', { cpu: '1', memory: '1Gi' }), node('b', { cpu: '2', memory: '1Gi' })];
  const held = [on('a', pod('x', { cpu: '600m' })), on('b', pod('y', { cpu: '1700m' }))];
  assert.equal(place(pod('p', { cpu: '400m' }), nodes, held), 'a');
  assert.equal(place(pod('p', { cpu: '401m' }), nodes, held), '0/2 nodes are available: 2 Insufficient cpu.');
  assert.equal(
    place(pod('p', { cpu: '350m', memory: '2Gi' }), nodes, held),
    '0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.',
  );
  const thirds = [on('c', pod('x', { cpu: 0.1 })), on('c', pod('y', { cpu: 0.2 }))];
  assert.equal(place(pod('p', { cpu: 0.7 }), [node('c', { cpu: '1' })], thirds), 'c');
});

test('a resource that a node does not name is one it lacks; who asks for nothing fits', () => {
  const nodes = [node('a', { cpu: '1', memory: '1Gi', 'example.com/dongle': '1' })];
  const full = [on('a', pod('x', { cpu: '1', memory: '1Gi' }))];
  assert.equal(place(pod('p', { 'example.com/dongle': 1 }), nodes, full), 'a');
  assert.equal(
    place(pod('p', { 'example.com/lamp': 1 }), nodes, full),
    '0/1 nodes are available: 1 Insufficient example.com/lamp.',
  );
  assert.equal(place(pod('p', {}), nodes, full), 'a');
  assert.equal(place(pod('p', { cpu: 0 }), nodes, full), 'a');
});

test('pods that have ended hold nothing', () => {
  const ended = { ...on('a', pod('x', { cpu: '1' })), status: { phase: 'Succeeded' as const } };
  assert.equal(place(pod('p', { cpu: '1' }), [node('a', { cpu: '1', memory: '1Gi' })], [ended]), 'a');
});

test('of nodes that fit the one with the smaller share given away is taken', () => {
  const nodes = [node('a', { cpu: '1', memory: '4Gi' }), node('b', { cpu: '8', memory: '4Gi' })];
  assert.equal(place(pod('p', { cpu: '500m', memory: '100Mi' }), nodes), 'b');
});
