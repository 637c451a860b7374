// The pure decisions of the smaller controllers: placement, daemons, endpoints, template names, status.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Deployment, Node, Pod, ReplicaSet, Service } from '#k8s/objects.ts';
import { planDaemons } from './daemon-plan.ts';
import { deploymentStatus } from './deployment-status.ts';
import { planSlices } from './endpoint-plan.ts';
import { placePod } from './placement.ts';
import { availableInMs, childName } from './pods.ts';
import { byDispensability } from './replica-sets.ts';
import { templateHash } from './template-hash.ts';
import { type Toleration, untoleratedTaint } from './tolerations.ts';

interface PodFacts {
  readonly node?: string;
  readonly ready?: boolean;
  readonly labels?: Record<string, string>;
  readonly owner?: string;
  readonly ending?: boolean;
  readonly phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
  readonly ips?: string[];
  readonly born?: string;
  readonly spec?: Partial<Pod['spec']>;
}

function pod(name: string, facts: PodFacts = {}): Pod {
  const { ready = true, ips = [] } = facts;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'ns',
      uid: `uid-${name}`,
      creationTimestamp: facts.born ?? '2026-01-01T00:00:00Z',
      ...(facts.labels === undefined ? {} : { labels: facts.labels }),
      ...(facts.ending === true ? { deletionTimestamp: '2026-01-01T00:01:00Z' } : {}),
      ...(facts.owner === undefined
        ? {}
        : {
            ownerReferences: [
              { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'o', uid: facts.owner, controller: true },
            ],
          }),
    },
    spec: {
      containers: [{ name: 'c', image: 'i' }],
      ...(facts.node === undefined ? {} : { nodeName: facts.node }),
      ...facts.spec,
    },
    status: {
      phase: facts.phase ?? 'Running',
      podIPs: ips.map((ip) => ({ ip })),
      conditions: [
        { type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: '2026-01-01T00:00:10Z' },
      ],
    },
  };
}

const node = (
  name: string,
  facts: { ready?: boolean; labels?: Record<string, string>; spec?: Node['spec'] } = {},
): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, labels: facts.labels ?? {} },
  ...(facts.spec === undefined ? {} : { spec: facts.spec }),
  status: { conditions: [{ type: 'Ready', status: facts.ready === false ? 'False' : 'True' }] },
});

test('placement: siblings apart, then the emptier node, then the name', () => {
  const nodes = [node('n2'), node('n1')];
  assert.deepEqual(placePod(pod('p'), nodes, []), { kind: 'node', node: 'n1' });
  const sibling = pod('s', { node: 'n1', owner: 'set' });
  assert.deepEqual(
    placePod(pod('p', { owner: 'set' }), nodes, [
      sibling,
      pod('x', { node: 'n2' }),
      pod('y', { node: 'n2' }),
    ]),
    {
      kind: 'node',
      node: 'n2',
    },
  );
  assert.deepEqual(placePod(pod('p', { owner: 'other' }), nodes, [sibling]), { kind: 'node', node: 'n2' });
  // A finished pod takes no room, an ending sibling makes room for its successor.
  assert.deepEqual(placePod(pod('p'), nodes, [pod('d', { node: 'n1', phase: 'Succeeded' })]), {
    kind: 'node',
    node: 'n1',
  });
  const leaving = pod('l', { node: 'n1', owner: 'set', ending: true });
  const staying = pod('s', { node: 'n2', owner: 'set' });
  assert.deepEqual(placePod(pod('p', { owner: 'set' }), nodes, [leaving, staying]), {
    kind: 'node',
    node: 'n1',
  });
});

test('placement: what keeps a pod away is counted', () => {
  const nodes = [
    node('a', { ready: false }),
    node('b', { spec: { unschedulable: true } }),
    node('c', { labels: { disk: 'hdd' } }),
    node('d', { labels: { disk: 'hdd' } }),
    node('e', { labels: { disk: 'ssd' }, spec: { taints: [{ key: 'gpu', effect: 'NoSchedule' }] } }),
  ];
  const wanting = pod('p', { spec: { nodeSelector: { disk: 'ssd' } } });
  assert.deepEqual(placePod(wanting, nodes, []), {
    kind: 'none',
    reason:
      "0/5 nodes are available: 1 node(s) had untolerated taint {gpu: }, 1 node(s) were not ready, 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector.",
  });
  assert.deepEqual(placePod(wanting, [], []), {
    kind: 'none',
    reason: '0/0 nodes are available: there is no node.',
  });
  const tolerant = pod('p', {
    spec: { nodeSelector: { disk: 'ssd' }, tolerations: [{ key: 'gpu', operator: 'Exists' }] },
  });
  assert.deepEqual(placePod(tolerant, nodes, []), { kind: 'node', node: 'e' });
});

test('tolerations', () => {
  const taint = { key: 'k', value: 'v', effect: 'NoExecute' };
  const cases: readonly [Toleration[], boolean][] = [
    [[], false],
    [[{ operator: 'Exists' }], true],
    [[{ key: 'k', value: 'v' }], true],
    [[{ key: 'k', operator: 'Equal', value: 'w' }], false],
    [[{ key: 'k', operator: 'Exists', effect: 'NoExecute' }], true],
    [[{ key: 'k', operator: 'Exists', effect: 'NoSchedule' }], false],
    [[{ key: 'j', operator: 'Exists' }], false],
  ];
  for (const [tolerations, expected] of cases)
    assert.equal(
      untoleratedTaint([taint], tolerations, ['NoSchedule', 'NoExecute']) === undefined,
      expected,
      JSON.stringify(tolerations),
    );
  assert.equal(untoleratedTaint([{ key: 'k', effect: 'PreferNoSchedule' }], [], ['NoSchedule']), undefined);
});

const daemons = (
  pods: Pod[],
  options: {
    nodes?: string[];
    updated?: string[];
    maxUnavailable?: number;
    maxSurge?: number;
    onDelete?: boolean;
  } = {},
) => {
  const plan = planDaemons({
    nodes: (options.nodes ?? ['n1', 'n2']).map((name) => ({ name, ready: name !== 'down' })),
    pods,
    isUpdated: ({ metadata }) => options.updated?.includes(metadata.name) ?? true,
    replaceOutdated: options.onDelete !== true,
    maxUnavailable: options.maxUnavailable ?? 1,
    maxSurge: options.maxSurge ?? 0,
    minReadySeconds: 0,
    nowMs: 0,
  });
  return { ...plan, remove: plan.remove.map(({ metadata }) => metadata.name) };
};

test('daemons: one for every node', () => {
  const plan = daemons([pod('a', { node: 'n1' })], { nodes: ['n1', 'n2', 'down'] });
  assert.deepEqual(plan.create, ['n2']);
  assert.deepEqual(plan.remove, []);
  assert.deepEqual(plan.status, {
    desiredNumberScheduled: 3,
    currentNumberScheduled: 1,
    updatedNumberScheduled: 1,
    numberMisscheduled: 0,
    numberReady: 1,
    numberAvailable: 1,
    numberUnavailable: 2,
  });
});

test('daemons with a surge: the new pod beside the old one, which goes when the new one is available', () => {
  const old = ['n1', 'n2'].map((name) => pod(`old-${name}`, { node: name }));
  const surge = { maxSurge: 1, maxUnavailable: 0, updated: ['new'] };
  const first = daemons(old, surge);
  assert.deepEqual([first.create, first.remove], [['n1'], []]);
  const starting = daemons([...old, pod('new', { node: 'n1', ready: false })], surge);
  assert.deepEqual([starting.create, starting.remove], [[], []], 'one at a time');
  assert.equal(starting.status.numberAvailable, 2);
  const ready = daemons([...old, pod('new', { node: 'n1' })], surge);
  assert.deepEqual(ready.remove, ['old-n1']);
  assert.deepEqual(ready.create, ['n2']);
  const broken = daemons([pod('old-n1', { node: 'n1', ready: false }), pod('old-n2', { node: 'n2' })], surge);
  assert.deepEqual(broken.remove, ['old-n1'], 'what serves nobody is replaced at once');
});

test('daemons: doubles, strays and failures go; the successor waits until its predecessor is gone', () => {
  const double = daemons([
    pod('late', { node: 'n1', born: '2026-01-02T00:00:00Z' }),
    pod('early', { node: 'n1' }),
    pod('b', { node: 'n2' }),
  ]);
  assert.deepEqual([double.create, double.remove], [[], ['late']]);
  const stray = daemons([pod('a', { node: 'n1' }), pod('b', { node: 'n2' }), pod('c', { node: 'n3' })]);
  assert.deepEqual([stray.remove, stray.status.numberMisscheduled], [['c'], 1]);
  const failed = daemons([pod('a', { node: 'n1', phase: 'Failed', ready: false }), pod('b', { node: 'n2' })]);
  assert.deepEqual([failed.create, failed.remove], [[], ['a']]);
  const ending = daemons([pod('a', { node: 'n1', ending: true }), pod('b', { node: 'n2' })]);
  assert.deepEqual([ending.create, ending.remove], [[], []]);
});

test('daemons: an update takes one node after the other', () => {
  const both = [pod('a', { node: 'n1' }), pod('b', { node: 'n2' })];
  assert.deepEqual(daemons(both, { updated: [] }).remove, ['a']);
  assert.deepEqual(daemons(both, { updated: [], maxUnavailable: 2 }).remove, ['a', 'b']);
  assert.deepEqual(daemons(both, { updated: [], onDelete: true }).remove, []);
  // While the first is away or not ready, the second stays.
  const half = [pod('a', { node: 'n1', ready: false }), pod('b', { node: 'n2' })];
  assert.deepEqual(daemons(half, { updated: ['a'] }).remove, []);
  // An outdated pod that serves nobody goes whatever else is unavailable.
  assert.deepEqual(daemons(half, { updated: [] }).remove, ['a']);
});

const service = (spec: Partial<Service['spec']>): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'ns' },
  spec: {
    selector: { app: 'web' },
    clusterIP: '10.96.1.1',
    ports: [{ name: 'http', port: 80, targetPort: 8080 }],
    ...spec,
  },
});
const labels = { app: 'web' };

test('endpoints: conditions, node, target; only addressed and unfinished pods', () => {
  const [slice, ...more] = planSlices(service({}), [
    pod('b', { labels, node: 'n2', ips: ['10.244.2.2'], ready: false }),
    pod('a', { labels, node: 'n1', ips: ['10.244.1.2'] }),
    pod('c', { labels, node: 'n1', ips: ['10.244.1.3'], ending: true }),
    pod('no-address', { labels }),
    pod('done', { labels, ips: ['10.244.1.9'], phase: 'Succeeded' }),
    pod('other', { labels: { app: 'db' }, ips: ['10.244.1.4'] }),
  ]);
  assert.deepEqual(more, []);
  assert.deepEqual(slice, {
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: [
      {
        addresses: ['10.244.1.2'],
        conditions: { ready: true, serving: true, terminating: false },
        nodeName: 'n1',
        targetRef: { kind: 'Pod', name: 'a', namespace: 'ns', uid: 'uid-a' },
      },
      {
        addresses: ['10.244.2.2'],
        conditions: { ready: false, serving: false, terminating: false },
        nodeName: 'n2',
        targetRef: { kind: 'Pod', name: 'b', namespace: 'ns', uid: 'uid-b' },
      },
      {
        addresses: ['10.244.1.3'],
        conditions: { ready: false, serving: true, terminating: true },
        nodeName: 'n1',
        targetRef: { kind: 'Pod', name: 'c', namespace: 'ns', uid: 'uid-c' },
      },
    ],
  });
});

test('endpoints: named ports, families, unready ones published, none at all', () => {
  const named = service({
    ports: [
      { port: 80, targetPort: 'web', appProtocol: 'http' },
      { name: 'x', port: 81, targetPort: 'missing' },
    ],
  });
  const withPort = (containerPort: number): Partial<Pod['spec']> => ({
    containers: [{ name: 'c', image: 'i', ports: [{ name: 'web', containerPort }] }],
  });
  const slices = planSlices(named, [
    pod('a', { labels, ips: ['10.0.0.1'], spec: withPort(8080) }),
    pod('b', { labels, ips: ['10.0.0.2'], spec: withPort(9090) }),
    pod('c', { labels, ips: ['10.0.0.3'], spec: withPort(8080) }),
  ]);
  assert.deepEqual(
    slices.map(({ ports, endpoints }) => [ports, endpoints.map(({ addresses }) => addresses[0])]),
    [
      [[{ name: '', port: 8080, protocol: 'TCP', appProtocol: 'http' }], ['10.0.0.1', '10.0.0.3']],
      [[{ name: '', port: 9090, protocol: 'TCP', appProtocol: 'http' }], ['10.0.0.2']],
    ],
  );

  const dual = service({ ipFamilies: ['IPv6', 'IPv4'] });
  assert.deepEqual(
    planSlices(dual, [
      pod('a', { labels, ips: ['10.0.0.1', 'fd00::1'] }),
      pod('b', { labels, ips: ['10.0.0.2'] }),
    ]).map(({ addressType, endpoints }) => [addressType, endpoints.map(({ addresses }) => addresses[0])]),
    [
      ['IPv6', ['fd00::1']],
      ['IPv4', ['10.0.0.1', '10.0.0.2']],
    ],
  );

  const [unready] = planSlices(service({ publishNotReadyAddresses: true }), [
    pod('a', { labels, ips: ['10.0.0.1'], ready: false }),
  ]);
  assert.deepEqual(unready?.endpoints[0]?.conditions, { ready: true, serving: false, terminating: false });

  assert.deepEqual(planSlices(service({}), []), [{ addressType: 'IPv4', ports: [], endpoints: [] }]);
  const headless = service({ clusterIP: 'None' });
  delete headless.spec.ports;
  const host = pod('a', { labels, ips: ['10.0.0.1'], spec: { hostname: 'a-0', subdomain: 'web' } });
  assert.deepEqual(planSlices(headless, [host])[0]?.ports, []);
  assert.equal(planSlices(headless, [host])[0]?.endpoints[0]?.hostname, 'a-0');
});

test('template names depend on content only', () => {
  const spec = { containers: [{ name: 'c', image: 'i' }] };
  const hash = templateHash({ metadata: { labels: { a: '1', b: '2' } }, spec });
  assert.match(hash, /^[bcdfghjklmnpqrstvwxz2456789]{10}$/);
  assert.equal(
    templateHash({ spec, metadata: { labels: { b: '2', 'pod-template-hash': 'x', a: '1' } } }),
    hash,
  );
  assert.notEqual(templateHash({ metadata: { labels: { a: '1', b: '3' } }, spec }), hash);
  assert.notEqual(
    templateHash({
      metadata: { labels: { a: '1', b: '2' } },
      spec: { containers: [...spec.containers, ...spec.containers] },
    }),
    hash,
  );
});

test('which replica to do without first', () => {
  const order = [
    pod('old-ready', { node: 'n1' }),
    pod('unplaced', { phase: 'Pending', ready: false }),
    pod('young-ready', { node: 'n1', born: '2026-01-02T00:00:00Z' }),
    pod('unready', { node: 'n1', ready: false }),
    pod('pending', { node: 'n1', phase: 'Pending', ready: false }),
  ]
    .sort(byDispensability)
    .map(({ metadata }) => metadata.name);
  assert.deepEqual(order, ['unplaced', 'pending', 'unready', 'young-ready', 'old-ready']);
});

test('availability by the clock, names within 63 characters', () => {
  const ready = pod('a');
  const readyAtMs = Date.parse('2026-01-01T00:00:10Z');
  assert.equal(availableInMs(ready, 0, readyAtMs), 0);
  assert.equal(availableInMs(ready, 5, readyAtMs + 2000), 3000);
  assert.equal(availableInMs(ready, 5, readyAtMs + 9000), 0);
  assert.equal(availableInMs(pod('b', { ready: false }), 0, readyAtMs), undefined);
  assert.equal(
    childName('web', () => 0),
    'web-bbbbb',
  );
  assert.equal(childName('x'.repeat(80), () => 0.999).length, 63);
});

interface SetFacts {
  readonly replicas: number;
  readonly ready: number;
}
function statusOf(
  desired: number,
  current: SetFacts | undefined,
  old: SetFacts[],
  before: Deployment['status'],
  nowMs: number,
) {
  const set = (name: string, { replicas, ready }: SetFacts): ReplicaSet =>
    ({
      metadata: { name },
      status: { replicas, readyReplicas: ready, availableReplicas: ready },
    }) as ReplicaSet;
  const deployment = {
    metadata: { name: 'web', generation: 7 },
    spec: {
      replicas: desired,
      progressDeadlineSeconds: 60,
      strategy: { rollingUpdate: { maxUnavailable: 0 } },
    },
    ...(before === undefined ? {} : { status: before }),
  } as unknown as Deployment;
  const { fields, recheckInMs } = deploymentStatus(
    deployment,
    current === undefined ? undefined : set('web-new', current),
    old.map((facts, at) => set(`web-${at}`, facts)),
    nowMs,
  );
  const conditions = fields.conditions as { type: string; status: string; reason: string }[];
  const short = conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`);
  return { fields, recheckInMs, short };
}

test('a rollout in its status: under way, complete, complete for good, stuck', () => {
  const t0 = Date.parse('2026-01-01T00:00:00Z');
  const started = statusOf(2, { replicas: 1, ready: 0 }, [{ replicas: 2, ready: 2 }], undefined, t0);
  assert.deepEqual(started.short, [
    'Available=True MinimumReplicasAvailable',
    'Progressing=True ReplicaSetUpdated',
  ]);
  const { conditions: _, ...numbers } = started.fields;
  assert.deepEqual(numbers, {
    observedGeneration: 7,
    replicas: 3,
    updatedReplicas: 1,
    readyReplicas: 2,
    availableReplicas: 2,
    unavailableReplicas: 0,
  });
  assert.equal(started.recheckInMs, 61_000);

  const before = started.fields as Record<string, unknown>;
  const waiting = statusOf(2, { replicas: 1, ready: 0 }, [{ replicas: 2, ready: 2 }], before, t0 + 30_000);
  assert.equal(waiting.recheckInMs, 31_000);
  const stuck = statusOf(2, { replicas: 1, ready: 0 }, [{ replicas: 2, ready: 2 }], before, t0 + 61_000);
  assert.equal(stuck.short[1], 'Progressing=False ProgressDeadlineExceeded');

  const complete = statusOf(2, { replicas: 2, ready: 2 }, [{ replicas: 0, ready: 0 }], before, t0 + 5_000);
  assert.deepEqual(complete.short, [
    'Available=True MinimumReplicasAvailable',
    'Progressing=True NewReplicaSetAvailable',
  ]);
  assert.equal(complete.recheckInMs, undefined);

  const after = complete.fields as Record<string, unknown>;
  const broken = statusOf(2, { replicas: 2, ready: 1 }, [], after, t0 + 9_000);
  assert.deepEqual(broken.short, [
    'Available=False MinimumReplicasUnavailable',
    'Progressing=True NewReplicaSetAvailable',
  ]);
});
