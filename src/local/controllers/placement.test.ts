// Where pods go: affinity to nodes and pods, spreading, ports, taints that one rather avoids.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod, PodSpec } from '#k8s/objects.ts';
import { placePod } from './placement.ts';
import { evictionDueMs, type Toleration } from './tolerations.ts';

const node = (name: string, labels: Record<string, string> = {}, spec: Node['spec'] = {}): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
  spec,
  status: { conditions: [{ type: 'Ready', status: 'True' }] },
});

function pod(name: string, spec: Partial<PodSpec> = {}, labels: Record<string, string> = { app: name }): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'ns', uid: name, labels },
    spec: { containers: [{ name: 'c', image: 'i' }], ...spec },
    status: { phase: 'Running' },
  };
}

const place = (wanting: Pod, nodes: Node[], pods: Pod[] = []): string => {
  const placement = placePod(
    wanting,
    nodes,
    pods,
    new Map([
      ['ns', {}],
      ['other', { team: 'b' }],
    ]),
  );
  return placement.kind === 'node' ? placement.node : placement.reason;
};

const HOST = 'kubernetes.io/hostname';
const byApp = (app: string) => ({ labelSelector: { matchLabels: { app } }, topologyKey: HOST });
const apart = (app: string): Partial<PodSpec> => ({
  affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [byApp(app)] } },
});

test('required node affinity: terms are alternatives, requirements of a term hold together', () => {
  const nodes = [
    node('a', { disk: 'hdd', cores: '4' }),
    node('b', { disk: 'ssd', cores: '2' }),
    node('c', { disk: 'ssd', cores: '8' }),
  ];
  const wants = (...nodeSelectorTerms: object[]): Pod =>
    pod('p', {
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: nodeSelectorTerms as never },
        },
      },
    });
  const ssd = { key: 'disk', operator: 'In', values: ['ssd'] };
  assert.equal(
    place(wants({ matchExpressions: [ssd, { key: 'cores', operator: 'Gt', values: ['4'] }] }), nodes),
    'c',
  );
  assert.equal(
    place(wants({ matchExpressions: [ssd, { key: 'cores', operator: 'Lt', values: ['4'] }] }), nodes),
    'b',
  );
  assert.equal(
    place(wants({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['b'] }] }), nodes),
    'b',
  );
  assert.equal(
    place(
      wants(
        { matchExpressions: [{ key: 'gpu', operator: 'Exists' }] },
        { matchExpressions: [{ key: 'disk', operator: 'NotIn', values: ['ssd'] }] },
      ),
      nodes,
    ),
    'a',
  );
  assert.equal(
    place(wants({}), nodes),
    "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
    'an empty term matches nothing',
  );
});

test('preferences decide among nodes that fit: weights of node and pod affinity, soft taints', () => {
  const nodes = [
    node('a'),
    node('b', { disk: 'ssd' }),
    node('c', {}, { taints: [{ key: 'k', effect: 'PreferNoSchedule' }] }),
  ];
  const preferring = pod('p', {
    affinity: {
      nodeAffinity: {
        preferredDuringSchedulingIgnoredDuringExecution: [
          { weight: 5, preference: { matchExpressions: [{ key: 'disk', operator: 'Exists' }] } },
        ],
      },
      podAntiAffinity: {
        preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 9, podAffinityTerm: byApp('noisy') }],
      },
    },
  });
  assert.equal(place(preferring, nodes), 'b');
  assert.equal(
    place(preferring, nodes, [pod('noisy', { nodeName: 'b' })]),
    'a',
    '5 - 9 is less than nothing',
  );
  const crowd = ['1', '2', '3'].flatMap((n) => [
    pod(`x${n}`, { nodeName: 'a' }),
    pod(`y${n}`, { nodeName: 'b' }),
  ]);
  assert.equal(place(pod('q'), nodes, crowd), 'a', 'a full node rather than one with a soft taint');
});

test('pods that keep their distance, and those already there that do', () => {
  const nodes = [node('a'), node('b')];
  const first = pod('db-0', { nodeName: 'a', ...apart('db') }, { app: 'db' });
  assert.equal(place(pod('db-1', apart('db'), { app: 'db' }), nodes, [first]), 'b');
  const both = [first, pod('db-1', { nodeName: 'b', ...apart('db') }, { app: 'db' })];
  assert.equal(
    place(pod('db-2', apart('db'), { app: 'db' }), nodes, both),
    "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.",
  );
  // A newcomer without rules of its own is kept away as well.
  assert.equal(
    place(pod('plain', {}, { app: 'db' }), nodes, both),
    "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules.",
  );
  // Rules are about their own namespace unless they say otherwise.
  const foreign = { ...first, metadata: { ...first.metadata, namespace: 'other' } };
  assert.equal(place(pod('db-1', apart('db'), { app: 'db' }), nodes, [foreign]), 'b', 'fuller, not refused');
  const everywhere = pod('db-1', {
    affinity: {
      podAntiAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: [
          { ...byApp('db'), namespaceSelector: { matchLabels: { team: 'b' } } },
        ],
      },
    },
  });
  assert.equal(
    place(everywhere, [node('a')], [{ ...foreign, spec: { ...foreign.spec, affinity: {} } }]),
    "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.",
  );
});

test('pods that want company: the first of them goes anywhere', () => {
  const nodes = [node('a'), node('b')];
  const together = (app: string): Pod =>
    pod(
      'p',
      { affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [byApp(app)] } } },
      { app: 'web' },
    );
  assert.equal(place(together('cache'), nodes, [pod('cache', { nodeName: 'b' })]), 'b');
  assert.equal(
    place(together('cache'), nodes),
    "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.",
  );
  assert.equal(place(together('web'), nodes), 'a');
});

test('topology spread: the skew of zones is kept, or only preferred to be', () => {
  const nodes = [node('a', { zone: '1' }), node('b', { zone: '1' }), node('c', { zone: '2' }), node('d')];
  const spread = (whenUnsatisfiable: 'DoNotSchedule' | 'ScheduleAnyway'): Partial<PodSpec> => ({
    topologySpreadConstraints: [
      { maxSkew: 1, topologyKey: 'zone', whenUnsatisfiable, labelSelector: { matchLabels: { app: 'w' } } },
    ],
  });
  const there = [
    pod('1', { nodeName: 'a' }, { app: 'w' }),
    pod('2', { nodeName: 'c' }, { app: 'w' }),
    pod('3', { nodeName: 'b' }, { app: 'w' }),
  ];
  assert.equal(place(pod('p', spread('DoNotSchedule'), { app: 'w' }), nodes, there), 'c');
  const cordoned = nodes.map((each) =>
    each.metadata.name === 'c' ? { ...each, spec: { unschedulable: true } } : each,
  );
  assert.equal(
    place(pod('p', spread('DoNotSchedule'), { app: 'w' }), cordoned, there),
    "0/4 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), 1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread constraints.",
  );
  assert.equal(place(pod('p', spread('ScheduleAnyway'), { app: 'w' }), cordoned, there), 'a');
});

test('ports of the node and the number of pods it holds', () => {
  const nodes = [node('a'), node('b')];
  const holder = pod('one', {
    nodeName: 'a',
    hostNetwork: true,
    containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 80 }] }],
  });
  const wanting = pod('two', {
    containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 1, hostPort: 80 }] }],
  });
  const others = [pod('x', { nodeName: 'b' }), pod('y', { nodeName: 'b' })];
  assert.equal(place(wanting, nodes, [holder, ...others]), 'b');
  assert.equal(
    place(wanting, [node('a')], [holder]),
    "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
  );
  const tiny = { ...node('a'), status: { ...node('a').status, allocatable: { pods: '1' } } };
  assert.equal(place(pod('p'), [tiny], [holder]), '0/1 nodes are available: 1 Too many pods.');
});

test('eviction by taint: at once, after the shortest toleration, or never', () => {
  const taint = (key: string) => ({ key, effect: 'NoExecute' });
  const due = (keys: string[], tolerations: Toleration[]): number | undefined =>
    evictionDueMs(keys.map(taint), tolerations, () => 1000);
  const forSeconds = (key: string, tolerationSeconds?: number): Toleration => ({
    key,
    operator: 'Exists',
    ...(tolerationSeconds === undefined ? {} : { tolerationSeconds }),
  });
  assert.equal(due([], []), undefined);
  assert.equal(due(['a'], []), 1000);
  assert.equal(due(['a'], [forSeconds('a', 20)]), 21_000);
  assert.equal(due(['a', 'b'], [forSeconds('a', 20), forSeconds('b', 5)]), 6000);
  assert.equal(due(['a'], [forSeconds('a')]), undefined);
  assert.equal(due(['a', 'b'], [forSeconds('a')]), 1000);
  assert.equal(
    evictionDueMs([{ key: 'a', effect: 'NoSchedule' }], [], () => 0),
    undefined,
  );
});
