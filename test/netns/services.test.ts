// Every kind of service with real traffic: two nodes, two pods on each, the service rules as the machine writes them.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { sleep } from '#base/clock.ts';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { type ServiceProxy, startServiceProxy } from '#local/net/service-proxy.ts';
import { silentLogger } from '#telemetry/log.ts';
import { HandInformer, type NetRig, PODS, startNetRig } from './lib/net-rig.ts';

const ADDRESS = '10.96.7.7';
type PodName = keyof typeof PODS;

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
    spec: { clusterIP: ADDRESS, ports: [{ port: 80 }], ...spec },
  });
  slices.put({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'web-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports,
    endpoints: pods.map((name) => ({
      addresses: [PODS[name].ip],
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

test('a cluster address spreads over pods of both nodes, which see the true client', async () => {
  await serve({}, ['a1', 'b1']);
  for (const from of ['a2', 'b2', 'n1', 'n2'] as const)
    assert.deepEqual(await answering(from, ADDRESS, 80), ['a1', 'b1'], `from ${from}`);
  assert.match(await rig.ask('a2', ADDRESS, 80), new RegExp(` ${PODS.a2.ip}$`));
});

test('no endpoint: refused at once, from pods and from the node; so is a port the service lacks', async () => {
  await serve({}, []);
  for (const from of ['a1', 'n1'] as const) {
    assert.equal(await rig.ask(from, ADDRESS, 80), 'ECONNREFUSED');
    assert.equal(await rig.ask(from, ADDRESS, 81), 'ECONNREFUSED');
    assert.equal(await rig.ask(from, ADDRESS, 80, { protocol: 'udp' }), 'ECONNREFUSED');
  }
});

test('a pod reaches itself through its own service', async () => {
  await serve({}, ['a1']);
  assert.match(await rig.ask('a1', ADDRESS, 80), /^a1:8080 172\.31\.0\.11$/);
});

test('session affinity: a client keeps its pod, also when others come and go; another client may have another', async () => {
  const sticky = {
    sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } },
  };
  await serve(sticky, ['a1', 'a2', 'b1']);
  const [first] = await answering('b2', ADDRESS, 80, 1);
  assert.deepEqual(await answering('b2', ADDRESS, 80), [first]);
  // Another endpoint more, another less: the rules are written again, the memory stays.
  const others: PodName[] = (['a1', 'a2', 'b1'] as const).filter((name) => name !== first);
  await serve(sticky, [first as PodName, others[0] as PodName, 'b2']);
  assert.deepEqual(await answering('b2', ADDRESS, 80), [first]);
  // Its own pod goes: it gets another and keeps that.
  await serve(sticky, others);
  const [second] = await answering('b2', ADDRESS, 80, 1);
  assert.ok(others.includes(second as PodName));
  assert.deepEqual(await answering('b2', ADDRESS, 80), [second]);
});

test('session affinity ends after its time without a connection', async () => {
  await serve({ sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 1 } } }, [
    'a1',
    'b1',
  ]);
  const seen = new Set<string>();
  // Each try starts from a forgotten client; that twenty of them all meet the same pod has a chance of 1 in 500,000.
  for (let round = 0; round < 20 && seen.size < 2; round++) {
    for (const name of await answering('b2', ADDRESS, 80, 3)) seen.add(name);
    await sleep(1500);
  }
  assert.equal(seen.size, 2);
});

test('internalTrafficPolicy Local keeps to the node, and refuses where it has no pod', async () => {
  await serve({ internalTrafficPolicy: 'Local' }, ['a1']);
  assert.deepEqual(await answering('a2', ADDRESS, 80, 5), ['a1']);
  assert.equal(await rig.ask('b2', ADDRESS, 80), 'ECONNREFUSED');
});

test('a node port answers on every node for pods of every node; the pods see the node as client', async () => {
  await serve({ type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] }, ['a1', 'b1']);
  for (const [node, address] of [
    ['n1', '172.31.0.11'],
    ['n2', '172.31.0.12'],
  ] as const) {
    assert.deepEqual(await answering('machine', address, 30_080), ['a1', 'b1'], `through ${node}`);
    assert.match(
      await rig.ask('machine', address, 30_080),
      new RegExp(` ${address.replaceAll('.', '\\.')}$`),
    );
  }
  // From a pod and from the nodes themselves.
  assert.deepEqual(await answering('a1', '172.31.0.12', 30_080), ['a1', 'b1']);
  assert.deepEqual(await answering('n1', '172.31.0.11', 30_080), ['a1', 'b1']);
  assert.deepEqual(await answering('n1', '172.31.0.12', 30_080), ['a1', 'b1']);
  await serve({ type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] }, []);
  assert.equal(await rig.ask('machine', '172.31.0.11', 30_080), 'ECONNREFUSED');
});

test('externalTrafficPolicy Local: the true client address, only pods of the node that was asked', async () => {
  await serve({ type: 'NodePort', externalTrafficPolicy: 'Local', ports: [{ port: 80, nodePort: 30_080 }] }, [
    'a1',
  ]);
  assert.equal(await rig.ask('machine', '172.31.0.11', 30_080), 'a1:8080 172.31.0.1');
  assert.equal(await rig.ask('machine', '172.31.0.12', 30_080), 'ECONNREFUSED');
  assert.deepEqual(await answering('b1', '172.31.0.12', 30_080, 5), ['a1'], 'pods are inside: any endpoint');
  assert.deepEqual(await answering('n2', '172.31.0.12', 30_080, 5), ['a1'], 'and so is the node');
});

test('external addresses lead to the service and are refused without endpoints', async () => {
  const spec = { externalIPs: ['198.51.100.7'] };
  await serve(spec, ['b1']);
  assert.match(await rig.ask('a1', '198.51.100.7', 80), /^b1:8080 /);
  await serve(spec, []);
  assert.equal(await rig.ask('a1', '198.51.100.7', 80), 'ECONNREFUSED');
});

test('terminating pods serve when no other does', async () => {
  const ending = { ready: false, serving: true, terminating: true };
  await serve({}, ['a1', 'b1'], { a1: ending });
  assert.deepEqual(await answering('b2', ADDRESS, 80), ['b1']);
  await serve({}, ['a1', 'b1'], { a1: ending, b1: { ready: false, serving: false, terminating: false } });
  assert.deepEqual(await answering('b2', ADDRESS, 80), ['a1']);
});

test('several ports, TCP and UDP beside each other', async () => {
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
  assert.match(await rig.ask('b1', ADDRESS, 80), /^a1:8080 /);
  assert.match(await rig.ask('b1', ADDRESS, 81), /^a1:9090 /);
  assert.match(await rig.ask('b1', ADDRESS, 80, { protocol: 'udp' }), /^a1:9090 /);
});

test('a UDP client that never pauses leaves an endpoint that is gone', async () => {
  const spec = { ports: [{ port: 80, protocol: 'UDP' }] };
  const ports = [{ name: '', port: 8080, protocol: 'UDP' }];
  const ask = (): Promise<string> => rig.ask('b2', ADDRESS, 80, { protocol: 'udp', sourcePort: 40_001 });
  await serve(spec, ['a1'], {}, ports);
  assert.match(await ask(), /^a1:/);
  await serve(spec, ['a1', 'b1'], {}, ports);
  assert.match(await ask(), /^a1:/, 'the flow stays where it is');
  await serve(spec, ['b1'], {}, ports);
  assert.match(await ask(), /^b1:/);
});

test('a node that comes again (LOCAL was restarted) keeps the clients that its table remembers', async () => {
  const sticky = { sessionAffinity: 'ClientIP' };
  await serve(sticky, ['a1', 'b1']);
  const [first] = await answering('b2', ADDRESS, 80, 1);
  const successor = await startServiceProxy({ services, slices, log: silentLogger });
  await Promise.all(rig.nodes.map((node) => successor.add(node)));
  assert.deepEqual(await answering('b2', ADDRESS, 80), [first]);
  successor.close();
});
