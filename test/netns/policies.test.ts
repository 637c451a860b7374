// NetworkPolicies with real traffic: two nodes, two pods on each, rules as the machine writes them, services beside them.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import type { KubeClient } from '#k8s/client.ts';
import type { EndpointSlice, Namespace, NetworkPolicy, Pod, Service } from '#k8s/objects.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { type NetworkPolicies, startNetworkPolicies } from '#local/net/network-policies.ts';
import { startServiceProxy } from '#local/net/service-proxy.ts';
import { silentLogger } from '#telemetry/log.ts';
import { addressV6, HandInformer, type NetRig, type Place, PODS, startNetRig } from './lib/net-rig.ts';

const SERVICE = '10.96.7.7';
let rig: NetRig;
let network: NetworkPolicies;
let proxy: Awaited<ReturnType<typeof startServiceProxy>>;
const policies = new HandInformer<NetworkPolicy>();
const pods = new HandInformer<Pod>();
const namespaces = new HandInformer<Namespace>();
const events: { reason: string; message: string; involvedObject: { kind: string; name: string } }[] = [];

/** a1 and b1 live in `shop`, a2 and b2 in `other`; their names are their labels. */
const podObject = (name: keyof typeof PODS): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: name.endsWith('1') ? 'shop' : 'other', uid: name, labels: { app: name } },
  spec: {
    nodeName: PODS[name].node,
    containers: [{ name: 'main', image: 'x', ports: [{ name: 'admin', containerPort: 9090 }] }],
  },
  status: {
    phase: 'Running',
    podIP: PODS[name].ip,
    podIPs: [{ ip: PODS[name].ip }, { ip: addressV6(name) }],
  },
});
const deny = { podSelector: {}, policyTypes: ['Ingress' as const] };

before(async () => {
  await warmThreadPool();
  rig = await startNetRig('p');
  for (const name of Object.keys(PODS) as (keyof typeof PODS)[]) pods.put(podObject(name));
  for (const name of ['shop', 'other'])
    namespaces.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: { team: name } } });
  const client = {
    create: (_: unknown, object: unknown) => {
      events.push(object as (typeof events)[number]);
      return Promise.resolve(object as never);
    },
    patch: () => Promise.reject(new Error('no event repeats here')),
  };
  network = await startNetworkPolicies({
    client: client as unknown as KubeClient,
    policies,
    pods,
    namespaces,
    log: silentLogger,
  });
  const services = new HandInformer<Service>();
  const slices = new HandInformer<EndpointSlice>();
  services.put({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop' },
    spec: { clusterIP: SERVICE, ports: [{ port: 80 }] },
  });
  slices.put({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'web-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ name: '', port: 8080, protocol: 'TCP' }],
    endpoints: [{ addresses: [PODS.a1.ip], nodeName: 'n1' }],
  });
  proxy = await startServiceProxy({ services, slices, log: silentLogger });
  await Promise.all(rig.nodes.flatMap((node) => [proxy.add(node), network.add(node)]));
});
after(() => {
  network?.close();
  proxy?.close();
  rig?.close();
});
beforeEach(async () => {
  for (const { metadata } of [...policies.all()]) policies.remove(`${metadata.namespace}/${metadata.name}`);
  await network.written();
});

let version = 0;
async function enforce(specs: Readonly<Record<string, NetworkPolicy['spec']>>): Promise<void> {
  for (const [name, spec] of Object.entries(specs))
    policies.put({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name, namespace: 'shop', uid: name, resourceVersion: String(++version) },
      ...(spec === undefined ? {} : { spec }),
    });
  await network.written();
}

/** How long a dropped packet is waited for; whoever should be answered has more patience. */
const SILENCE_MS = 1500;
const silent = { patienceMs: SILENCE_MS };

/** Of those who ask a1's port exactly these get an answer, at either of its addresses. */
async function reached(
  port: number,
  expected: readonly Place[],
  from: readonly Place[] = ['a2', 'b1', 'b2'],
): Promise<void> {
  await Promise.all(
    [PODS.a1.ip, addressV6('a1')].map(async (address) => {
      const answers = await Promise.all(
        from.map(async (place) => {
          const answer = await rig.ask(place, address, port, expected.includes(place) ? {} : silent);
          return answer.startsWith('a1:') ? place : undefined;
        }),
      );
      assert.deepEqual(
        answers.filter((place) => place !== undefined),
        expected,
        `at ${address}`,
      );
    }),
  );
}

test('without policies everything passes, with an empty one nothing but the own node', async () => {
  await reached(8080, ['a2', 'b1', 'b2']);
  await enforce({ deny });
  await reached(8080, [], ['a2', 'b1', 'b2', 'machine', 'n2']);
  for (const address of [PODS.a1.ip, addressV6('a1')])
    assert.match(await rig.ask('n1', address, 8080), /^a1:/, 'probes come from the own node');
  assert.match(await rig.ask('b1', PODS.a2.ip, 8080), /^a2:/, 'the policy is of another namespace');
  assert.equal(await rig.ask('b1', SERVICE, 80, silent), 'silence', 'a service is no way round');
});

test('selectors of pods and namespaces, ports by number and name', async () => {
  await enforce({
    deny,
    pods: {
      podSelector: { matchLabels: { app: 'a1' } },
      ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 8080 }] }],
    },
  });
  await Promise.all([reached(8080, ['b1']), reached(9090, [])]);
  assert.match(await rig.ask('b1', SERVICE, 80), /^a1:8080 /, 'the port is the one of the pod');
  const namespaceSelector = { matchLabels: { team: 'other' } };
  await enforce({
    pods: {
      podSelector: {},
      ingress: [
        {
          from: [{ namespaceSelector, podSelector: { matchLabels: { app: 'b2' } } }],
          ports: [{ port: 'admin' }],
        },
      ],
    },
  });
  await Promise.all([reached(9090, ['b2']), reached(8080, [])]);
});

test('address blocks with exceptions', async () => {
  await enforce({
    blocks: {
      podSelector: {},
      ingress: [
        {
          from: [
            { ipBlock: { cidr: '10.244.2.0/24', except: [`${PODS.b2.ip}/32`] } },
            { ipBlock: { cidr: '172.31.0.1/32' } },
            { ipBlock: { cidr: 'fd00:10:244:2::/64', except: [`${addressV6('b2')}/128`] } },
            { ipBlock: { cidr: 'fd00:172:31::1/128' } },
          ],
        },
      ],
    },
  });
  await reached(8080, ['b1', 'machine'], ['a2', 'b1', 'b2', 'machine']);
});

test('egress: only what is opened; answers to others still leave', async () => {
  await enforce({
    out: {
      podSelector: {},
      policyTypes: ['Egress'],
      egress: [{ to: [{ podSelector: { matchLabels: { app: 'b1' } } }], ports: [{ port: 8080 }] }],
    },
  });
  assert.match(await rig.ask('a1', PODS.b1.ip, 8080), /^b1:/);
  assert.match(await rig.ask('a1', addressV6('b1'), 8080), /^b1:/);
  const closed = [
    [addressV6('b1'), 9090],
    [addressV6('b2'), 8080],
    [PODS.b1.ip, 9090],
    [PODS.b2.ip, 8080],
  ] as const;
  assert.deepEqual(
    await Promise.all(closed.map(([address, port]) => rig.ask('a1', address, port, silent))),
    closed.map(() => 'silence'),
  );
  assert.match(await rig.ask('b2', PODS.a1.ip, 8080), /^a1:/);
  assert.match(await rig.ask('a1', PODS.b1.ip, 8080, { sourcePort: 40_100 }), /^b1:/);
});

test('UDP is judged, too, and a pod always reaches itself through its service', async () => {
  await enforce({
    own: {
      podSelector: {},
      policyTypes: ['Ingress', 'Egress'],
      ingress: [{ ports: [{ port: 8080, protocol: 'UDP' }] }],
    },
  });
  assert.match(await rig.ask('b2', PODS.a1.ip, 8080, { protocol: 'udp' }), /^a1:/);
  assert.equal(await rig.ask('b2', PODS.a1.ip, 9090, { protocol: 'udp', ...silent }), 'silence');
  assert.match(await rig.ask('a1', SERVICE, 80), /^a1:8080 /);
});

test('a policy on the application port alone stops the mesh: its traffic arrives at port 15008', async () => {
  pods.put({
    ...podObject('a1'),
    metadata: { ...podObject('a1').metadata, annotations: { 'ambient.istio.io/redirection': 'enabled' } },
  });
  events.length = 0;
  await enforce({
    app: { podSelector: { matchLabels: { app: 'a1' } }, ingress: [{ ports: [{ port: 8080 }] }] },
  });
  await reached(15_008, []);
  const [event, ...others] = events.filter(({ reason }) => reason === 'MeshPortBlocked');
  assert.deepEqual(others, []);
  assert.equal(event?.involvedObject.name, 'app');
  assert.match(event?.message ?? '', /pod shop\/a1 is in the mesh.*"- port: 15008"/);
  await enforce({
    app: {
      podSelector: { matchLabels: { app: 'a1' } },
      ingress: [{ ports: [{ port: 8080 }, { port: 15_008 }] }],
    },
  });
  await reached(15_008, ['a2', 'b1', 'b2']);
  pods.put(podObject('a1'));
});

test('a new pod is held back until its rules stand', async () => {
  pods.remove('shop/a1');
  await enforce({ deny });
  await reached(8080, ['a2', 'b1', 'b2']);
  const { status: _status, ...fresh } = podObject('a1');
  await network.podStarts(fresh, [PODS.a1.ip, addressV6('a1')]);
  await reached(8080, []);
  pods.put(podObject('a1'));
});

test('a pod whose sandbox is made again is judged at its new address before its status shows it', async () => {
  // Its status still names the address it had.
  pods.put({
    ...podObject('a1'),
    status: { phase: 'Running', podIP: '10.244.1.77', podIPs: [{ ip: '10.244.1.77' }] },
  });
  await enforce({ deny });
  await reached(8080, ['a2', 'b1', 'b2']);
  await network.podStarts(podObject('a1'), [PODS.a1.ip, addressV6('a1')]);
  await reached(8080, []);
  pods.put(podObject('a1'));
});
