// Every kind of service with real traffic: two nodes, two pods on each, the service rules as the machine writes them.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { sleep } from '#base/clock.ts';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { type ServiceProxy, startServiceProxy } from '#local/net/service-proxy.ts';
import { silentLogger } from '#telemetry/log.ts';
import { addressV6, HandInformer, type NetRig, PODS, startNetRig } from './lib/net-rig.ts';

type PodName = keyof typeof PODS;

/** The same cluster in each family. */
const WORLDS = {
  IPv4: {
    service: '10.96.7.7',
    ipOf: (pod: PodName): string => PODS[pod].ip,
    n1: '172.31.0.11',
    n2: '172.31.0.12',
    machine: '172.31.0.1',
    outside: '198.51.100.7',
  },
  IPv6: {
    service: 'fd00:10:96::707',
    ipOf: addressV6,
    n1: 'fd00:172:31::11',
    n2: 'fd00:172:31::12',
    machine: 'fd00:172:31::1',
    outside: '2001:db8::7',
  },
} as const;
let world: (typeof WORLDS)[keyof typeof WORLDS] = WORLDS.IPv4;

let rig: NetRig;
let proxy: ServiceProxy;
const services = new HandInformer<Service>();
const slices = new HandInformer<EndpointSlice>();

before(async () => {
  await warmThreadPool();
  rig = await startNetRig('s');
  proxy = await startServiceProxy({ services, slices, log: silentLogger });
  await Promise.all(rig.nodes.map((node) => proxy.add(node)));
});
after(() => {
  proxy?.close();
  rig?.close();
});
beforeEach(async () => {
  for (const { metadata } of [...services.all()]) services.remove(`default/${metadata.name}`);
  for (const { metadata } of [...slices.all()]) slices.remove(`default/${metadata.name}`);
  await proxy.written();
});

type Conditions = NonNullable<EndpointSlice['endpoints'][number]['conditions']>;

async function serve(
  spec: Partial<Service['spec']>,
  pods: readonly PodName[],
  conditions: Partial<Record<PodName, Conditions>> = {},
  ports: EndpointSlice['ports'] = [{ name: '', port: 8080, protocol: 'TCP' }],
): Promise<void> {
  services.put({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'default' },
    spec: { clusterIP: world.service, clusterIPs: [world.service], ports: [{ port: 80 }], ...spec },
  });
  slices.put({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'web-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: world === WORLDS.IPv4 ? 'IPv4' : 'IPv6',
    ports,
    endpoints: pods.map((name) => ({
      addresses: [world.ipOf(name)],
      nodeName: PODS[name].node,
      conditions: conditions[name] ?? { ready: true, serving: true, terminating: false },
    })),
  });
  await proxy.written();
}

/** The pods that answered, each once. */
async function answering(
  from: Parameters<NetRig['ask']>[0],
  host: string,
  port: number,
  times = 30,
): Promise<string[]> {
  const answers = await Promise.all(Array.from({ length: times }, () => rig.ask(from, host, port)));
  return [...new Set(answers.map((text) => text.split(':')[0] as string))].sort();
}

/** A test with IPv4 and one with IPv6. */
function eachFamily(name: string, work: () => Promise<void>): void {
  for (const family of ['IPv4', 'IPv6'] as const)
    test(`${family}: ${name}`, async () => {
      world = WORLDS[family];
      await work();
    });
}

eachFamily('a cluster address spreads over pods of both nodes, which see the true client', async () => {
  await serve({}, ['a1', 'b1']);
  for (const from of ['a2', 'b2', 'n1', 'n2'] as const)
    assert.deepEqual(await answering(from, world.service, 80), ['a1', 'b1'], `from ${from}`);
  assert.match(await rig.ask('a2', world.service, 80), new RegExp(` ${world.ipOf('a2')}$`));
});

eachFamily(
  'no endpoint: refused at once, from pods and from the node; so is a port the service lacks',
  async () => {
    await serve({}, []);
    for (const from of ['a1', 'n1'] as const) {
      assert.equal(await rig.ask(from, world.service, 80), 'ECONNREFUSED');
      assert.equal(await rig.ask(from, world.service, 81), 'ECONNREFUSED');
      assert.equal(await rig.ask(from, world.service, 80, { protocol: 'udp' }), 'ECONNREFUSED');
    }
  },
);

eachFamily('a pod reaches itself through its own service', async () => {
  await serve({}, ['a1']);
  assert.match(await rig.ask('a1', world.service, 80), new RegExp(`^a1:8080 ${world.n1}$`));
});

eachFamily(
  'session affinity: a client keeps its pod, also when others come and go; another client may have another',
  async () => {
    const sticky = {
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } },
    };
    await serve(sticky, ['a1', 'a2', 'b1']);
    const [first] = await answering('b2', world.service, 80, 1);
    assert.deepEqual(await answering('b2', world.service, 80), [first]);
    // Another endpoint more, another less: the rules are written again, the memory stays.
    const others: PodName[] = (['a1', 'a2', 'b1'] as const).filter((name) => name !== first);
    await serve(sticky, [first as PodName, others[0] as PodName, 'b2']);
    assert.deepEqual(await answering('b2', world.service, 80), [first]);
    // Its own pod goes: it gets another and keeps that.
    await serve(sticky, others);
    const [second] = await answering('b2', world.service, 80, 1);
    assert.ok(others.includes(second as PodName));
    assert.deepEqual(await answering('b2', world.service, 80), [second]);
  },
);

eachFamily('session affinity ends after its time without a connection', async () => {
  await serve({ sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 1 } } }, [
    'a1',
    'b1',
  ]);
  const seen = new Set<string>();
  // Each try starts from a forgotten client; that twenty of them all meet the same pod has a chance of 1 in 500,000.
  for (let round = 0; round < 20 && seen.size < 2; round++) {
    for (const name of await answering('b2', world.service, 80, 3)) seen.add(name);
    await sleep(1500);
  }
  assert.equal(seen.size, 2);
});

eachFamily('internalTrafficPolicy Local keeps to the node, and refuses where it has no pod', async () => {
  await serve({ internalTrafficPolicy: 'Local' }, ['a1']);
  assert.deepEqual(await answering('a2', world.service, 80, 5), ['a1']);
  assert.equal(await rig.ask('b2', world.service, 80), 'ECONNREFUSED');
});

eachFamily(
  'a node port answers on every node for pods of every node; the pods see the node as client',
  async () => {
    await serve({ type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] }, ['a1', 'b1']);
    for (const [node, address] of [
      ['n1', world.n1],
      ['n2', world.n2],
    ] as const) {
      assert.deepEqual(await answering('machine', address, 30_080), ['a1', 'b1'], `through ${node}`);
      assert.match(await rig.ask('machine', address, 30_080), new RegExp(` ${address}$`));
    }
    // From a pod and from the nodes themselves.
    assert.deepEqual(await answering('a1', world.n2, 30_080), ['a1', 'b1']);
    assert.deepEqual(await answering('n1', world.n1, 30_080), ['a1', 'b1']);
    assert.deepEqual(await answering('n1', world.n2, 30_080), ['a1', 'b1']);
    await serve({ type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] }, []);
    assert.equal(await rig.ask('machine', world.n1, 30_080), 'ECONNREFUSED');
  },
);

eachFamily(
  'externalTrafficPolicy Local: the true client address, only pods of the node that was asked',
  async () => {
    await serve(
      { type: 'NodePort', externalTrafficPolicy: 'Local', ports: [{ port: 80, nodePort: 30_080 }] },
      ['a1'],
    );
    assert.equal(await rig.ask('machine', world.n1, 30_080), `a1:8080 ${world.machine}`);
    assert.equal(await rig.ask('machine', world.n2, 30_080), 'ECONNREFUSED');
    assert.deepEqual(await answering('b1', world.n2, 30_080, 5), ['a1'], 'pods are inside: any endpoint');
    assert.deepEqual(await answering('n2', world.n2, 30_080, 5), ['a1'], 'and so is the node');
  },
);

eachFamily('external addresses lead to the service and are refused without endpoints', async () => {
  const spec = { externalIPs: [world.outside] };
  await serve(spec, ['b1']);
  assert.match(await rig.ask('a1', world.outside, 80), /^b1:8080 /);
  await serve(spec, []);
  assert.equal(await rig.ask('a1', world.outside, 80), 'ECONNREFUSED');
});

eachFamily('terminating pods serve when no other does', async () => {
  const ending = { ready: false, serving: true, terminating: true };
  await serve({}, ['a1', 'b1'], { a1: ending });
  assert.deepEqual(await answering('b2', world.service, 80), ['b1']);
  await serve({}, ['a1', 'b1'], { a1: ending, b1: { ready: false, serving: false, terminating: false } });
  assert.deepEqual(await answering('b2', world.service, 80), ['a1']);
});

eachFamily('several ports, TCP and UDP beside each other', async () => {
  await serve(
    {
      ports: [
        { name: 'web', port: 80 },
        { name: 'admin', port: 81 },
        { name: 'dns', port: 80, protocol: 'UDP' },
      ],
    },
    ['a1'],
    {},
    [
      { name: 'web', port: 8080, protocol: 'TCP' },
      { name: 'admin', port: 9090, protocol: 'TCP' },
      { name: 'dns', port: 9090, protocol: 'UDP' },
    ],
  );
  assert.match(await rig.ask('b1', world.service, 80), /^a1:8080 /);
  assert.match(await rig.ask('b1', world.service, 81), /^a1:9090 /);
  assert.match(await rig.ask('b1', world.service, 80, { protocol: 'udp' }), /^a1:9090 /);
});

eachFamily('a UDP client that never pauses leaves an endpoint that is gone', async () => {
  const spec = { ports: [{ port: 80, protocol: 'UDP' }] };
  const ports = [{ name: '', port: 8080, protocol: 'UDP' }];
  const ask = (): Promise<string> =>
    rig.ask('b2', world.service, 80, { protocol: 'udp', sourcePort: 40_001 });
  await serve(spec, ['a1'], {}, ports);
  assert.match(await ask(), /^a1:/);
  await serve(spec, ['a1', 'b1'], {}, ports);
  assert.match(await ask(), /^a1:/, 'the flow stays where it is');
  await serve(spec, ['b1'], {}, ports);
  assert.match(await ask(), /^b1:/);
});

eachFamily(
  'a node that comes again (LOCAL was restarted) keeps the clients that its table remembers',
  async () => {
    const sticky = { sessionAffinity: 'ClientIP' };
    await serve(sticky, ['a1', 'b1']);
    const [first] = await answering('b2', world.service, 80, 1);
    const successor = await startServiceProxy({ services, slices, log: silentLogger });
    await Promise.all(rig.nodes.map((node) => successor.add(node)));
    assert.deepEqual(await answering('b2', world.service, 80), [first]);
    successor.close();
  },
);

test('a service with both families leads to the pods of each by the address of each', async () => {
  world = WORLDS.IPv6;
  await serve({ clusterIPs: [WORLDS.IPv4.service, WORLDS.IPv6.service] }, ['a1']);
  const [slice] = slices.all();
  assert.ok(slice !== undefined);
  slices.put({
    ...slice,
    metadata: { ...slice.metadata, name: 'web-2' },
    addressType: 'IPv4',
    endpoints: [{ addresses: [PODS.b1.ip], nodeName: 'n2' }],
  });
  await proxy.written();
  assert.equal(await rig.ask('b2', WORLDS.IPv6.service, 80), `a1:8080 ${addressV6('b2')}`);
  assert.equal(await rig.ask('b2', WORLDS.IPv4.service, 80), `b1:8080 ${PODS.b2.ip}`);
});
