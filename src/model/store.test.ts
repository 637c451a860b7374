// The store after any sequence of updates equals one built from the final state; and the look-ups of ztunnel.md §3.6, §6.3.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseCidr } from '#net/cidr.ts';
import { type IpAddress, ip } from '#net/ip.ts';
import type { PolicyKey } from './policy.ts';
import { policyOf, serviceOf, workloadOf } from './samples.ts';
import type { Service } from './service.ts';
import { createStore, type Store, type StoreUpdate, type WorkloadChange } from './store.ts';
import type { ServiceKey, Workload, WorkloadUid } from './workload.ts';

const uid = (text: string): WorkloadUid => text as WorkloadUid;
const key = (text: string): ServiceKey => text as ServiceKey;
const withWorkloads = (...workloads: Workload[]): StoreUpdate => ({
  addresses: workloads.map((workload) => ({ kind: 'workload', workload })),
});
const withServices = (...services: Service[]): StoreUpdate => ({
  addresses: services.map((service) => ({ kind: 'service', service })),
});
const store = (...updates: StoreUpdate[]): Store => {
  const made = createStore({ localNode: 'n1' });
  for (const update of updates) made.apply(update);
  return made;
};

const A = ip('10.0.0.1');
const B = ip('10.0.0.2');
const C = ip('10.0.0.3');
const V = ip('10.96.0.5');

test('a workload is found by uid and by network and address; a new record replaces the old', () => {
  const made = store(withWorkloads(workloadOf({ uid: uid('w'), ips: [A], network: 'east' })));
  assert.equal(made.workloadByIp('east', A)?.uid, 'w');
  assert.equal(made.workloadByIp('', A), undefined);
  made.apply(withWorkloads(workloadOf({ uid: uid('w'), ips: [B], network: '' })));
  assert.equal(made.workloadByIp('east', A), undefined);
  assert.equal(made.workloadByIp('', B)?.uid, 'w');
});

test('the address of a workload that spoke HBONE is remembered for ten seconds after it is gone', () => {
  let nowMs = 0;
  const made = createStore({ localNode: 'n1', clock: { monotonicMs: () => nowMs } });
  const meshed = workloadOf({ uid: uid('w'), ips: [A], protocol: 'HBONE' });
  made.apply(withWorkloads(meshed, workloadOf({ uid: uid('plain'), ips: [C], protocol: 'TCP' })));
  assert.equal(made.wasInMesh('', A), false);
  // Made anew under the same name, elsewhere.
  made.apply(withWorkloads({ ...meshed, ips: [B] }));
  assert.equal(made.wasInMesh('', A), true);
  nowMs = 5000;
  made.apply({ removedAddresses: ['w', 'plain'] });
  assert.deepEqual(
    [A, B, C].map((address) => made.wasInMesh('', address)),
    [true, true, false],
  );
  assert.equal(made.wasInMesh('east', A), false);
  nowMs = 10_000;
  assert.deepEqual([made.wasInMesh('', A), made.wasInMesh('', B)], [false, true]);
  // It leaves the mesh and stays where it is: everybody may see so.
  made.apply(withWorkloads({ ...meshed, ips: [C] }));
  made.apply(withWorkloads({ ...meshed, ips: [C], protocol: 'TCP' }));
  assert.equal(made.wasInMesh('', C), false);
});

test('a host-network workload is not found by address', () => {
  const made = store(withWorkloads(workloadOf({ uid: uid('w'), ips: [A], networkMode: 'HostNetwork' })));
  assert.equal(made.workloadByIp('', A), undefined);
  assert.equal(made.workload(uid('w'))?.ips[0], A);
});

test('on a shared address pods win, then HBONE, then the last', () => {
  const other = (id: string, protocol: Workload['protocol']): Workload =>
    workloadOf({ uid: uid(id), ips: [A], protocol });
  const pod = 'Kubernetes//Pod/shop/cart';
  const entry = 'Kubernetes/networking.istio.io/WorkloadEntry/shop/cart';
  const slice = 'Kubernetes/discovery.k8s.io/EndpointSlice/shop/cart/10.0.0.1';
  const winner = (...workloads: Workload[]): string | undefined =>
    store(withWorkloads(...workloads)).workloadByIp('', A)?.uid;
  assert.equal(winner(other(pod, 'TCP'), other(entry, 'HBONE')), pod);
  assert.equal(winner(other(entry, 'HBONE'), other(slice, 'TCP')), entry);
  assert.equal(winner(other(entry, 'TCP'), other(slice, 'TCP')), slice);
});

test('local workloads are found by name, namespace and account, and only those of this node', () => {
  const here = workloadOf({ name: 'a', namespace: 'shop', serviceAccount: 'cart', node: 'n1' });
  const there = workloadOf({ name: 'b', namespace: 'shop', serviceAccount: 'cart', node: 'n2' });
  const made = store(withWorkloads(here, there));
  assert.equal(made.localWorkload('a', 'shop', 'cart')?.uid, here.uid);
  assert.equal(made.localWorkload('a', 'shop', 'default'), undefined);
  assert.equal(made.localWorkload('b', 'shop', 'cart'), undefined);
  made.apply({ removedAddresses: [here.uid] });
  assert.deepEqual(made.localWorkloads('shop', 'cart'), []);
});

test('endpoints may come before their service, after it, and outlive its replacement and its removal', () => {
  const cart = key('shop/cart.shop');
  const service = serviceOf({ namespace: 'shop', hostname: 'cart.shop' });
  const endpoint = workloadOf({ uid: uid('w'), services: new Map([[cart, new Map([[80, 8080]])]]) });
  const made = store(withWorkloads(endpoint));
  assert.deepEqual([...(made.stagedEndpoints().get(cart)?.keys() ?? [])], ['w']);
  made.apply(withServices(service));
  const endpoints = (): string[] => [...(made.service(cart)?.endpoints.keys() ?? [])];
  assert.deepEqual(endpoints(), ['w']);
  assert.equal(made.stagedEndpoints().size, 0);
  made.apply(withServices({ ...service, canonical: true }));
  assert.deepEqual(endpoints(), ['w']);
  made.apply({ removedAddresses: [cart] });
  assert.equal(made.service(cart), undefined);
  made.apply(withServices(service));
  assert.deepEqual(endpoints(), ['w']);
  made.apply(withWorkloads({ ...endpoint, services: new Map() }));
  assert.deepEqual(endpoints(), []);
});

test('a name to remove is a uid first, then namespace/hostname; with more slashes it is neither', () => {
  const service = serviceOf({ namespace: 'a', hostname: 'b' });
  const made = store(withServices(service), withWorkloads(workloadOf({ uid: uid('a/b') })));
  made.apply({ removedAddresses: ['a/b'] });
  assert.equal(made.workload(uid('a/b')), undefined);
  assert.ok(made.service(key('a/b')) !== undefined);
  const version = made.configVersion;
  made.apply({ removedAddresses: ['x/y/z', 'nothing', 'no/such'] });
  assert.equal(made.configVersion, version);
  made.apply({ removedAddresses: ['a/b'] });
  assert.equal(made.service(key('a/b')), undefined);
});

test('a VIP shared within a namespace: the service told of last, in the place of the first', () => {
  const vips = [{ network: '', ip: ip('10.96.0.7') }];
  const of = (name: string, namespace: string, more: Partial<Service> = {}): Service =>
    serviceOf({ name, namespace, vips, ...more });
  const owner = (client: string, ...services: Service[]): string | undefined => {
    const store = createStore({ localNode: 'n1' });
    for (const service of services) store.apply({ addresses: [{ kind: 'service', service }] });
    return store.serviceByVip('', ip('10.96.0.7'), client)?.service.name;
  };
  const [first, second, other] = [of('first', 'a'), of('second', 'a'), of('other', 'b')];
  assert.equal(owner('a', first, second), 'second');
  assert.equal(owner('c', first, other, second), 'second');
  assert.equal(owner('c', other, first, second), 'other');
  // Told again, the first one is the last.
  assert.equal(owner('a', first, second, first), 'first');
});

test('a VIP shared by namespaces: the client’s own, then canonical, then the first', () => {
  const vips = [{ network: '', ip: V }];
  const first = serviceOf({ namespace: 'first', hostname: 'x', vips });
  const canonical = serviceOf({ namespace: 'second', hostname: 'x', vips, canonical: true });
  const third = serviceOf({ namespace: 'third', hostname: 'x', vips });
  const made = store(withServices(first, canonical, third));
  const found = (namespace: string): string | undefined =>
    made.serviceByVip('', V, namespace)?.service.namespace;
  assert.equal(found('third'), 'third');
  assert.equal(found('elsewhere'), 'second');
  assert.equal(made.serviceByHostname('x', 'first')?.service.namespace, 'first');
  made.apply({ removedAddresses: ['second/x'] });
  assert.equal(found('elsewhere'), 'first');
  assert.equal(made.serviceByVip('other', V, 'first'), undefined);
});

test('a service of namespace visibility is seen from its namespace only', () => {
  const hidden = serviceOf({
    namespace: 'a',
    hostname: 'x',
    visibility: 'Namespace',
    vips: [{ network: '', ip: V }],
  });
  const made = store(withServices(hidden));
  assert.ok(made.serviceByVip('', V, 'a') !== undefined);
  assert.equal(made.serviceByVip('', V, 'b'), undefined);
  assert.equal(made.serviceByHostname('x', 'b'), undefined);
});

test('an exact VIP beats ranges; among ranges the own namespace, then the longer prefix, then canonical', () => {
  const cidrVips = (...ranges: string[]) => ranges.map((text) => ({ network: '', cidr: parseCidr(text)! }));
  const wide = serviceOf({ namespace: 'wide', hostname: 'w', cidrVips: cidrVips('10.96.0.0/12') });
  const narrow = serviceOf({ namespace: 'narrow', hostname: 'n', cidrVips: cidrVips('10.96.0.0/24') });
  const twin = serviceOf({
    namespace: 'twin',
    hostname: 't',
    canonical: true,
    cidrVips: cidrVips('10.96.0.0/24'),
  });
  const made = store(withServices(wide, narrow));
  const found = (namespace: string, address: IpAddress = V): string | undefined =>
    made.serviceByVip('', address, namespace)?.service.namespace;
  assert.equal(found('x'), 'narrow');
  assert.equal(found('wide'), 'wide');
  assert.equal(found('x', ip('10.97.0.1')), 'wide');
  assert.equal(found('x', ip('10.200.0.1')), undefined);
  made.apply(withServices(twin));
  assert.equal(found('x'), 'twin');
  made.apply(withServices(serviceOf({ namespace: 'exact', hostname: 'e', vips: [{ network: '', ip: V }] })));
  assert.equal(found('wide'), 'exact');
  made.apply({ removedAddresses: ['exact/e', 'twin/t', 'narrow/n'] });
  assert.equal(found('x'), 'wide');
});

test('policies apply by namespace, globally and by name; missing names are skipped and told', () => {
  const mine = policyOf({ namespace: 'shop', name: 'mine', scope: 'Namespace' });
  const others = policyOf({ namespace: 'bank', name: 'others', scope: 'Namespace' });
  const global = policyOf({ namespace: 'root', name: 'global', scope: 'Global' });
  const chosen = policyOf({ namespace: 'shop', name: 'chosen', scope: 'WorkloadSelector' });
  const unchosen = policyOf({ namespace: 'shop', name: 'unchosen', scope: 'WorkloadSelector' });
  const made = store({ policies: [mine, others, global, chosen, unchosen] });
  const missing: PolicyKey[] = [];
  const workload = workloadOf({
    namespace: 'shop',
    authorizationPolicies: ['shop/chosen', 'shop/gone', 'root/global'],
  });
  const names = (): string[] =>
    made
      .policiesFor(workload, (name) => missing.push(name))
      .map(({ name }) => name)
      .sort();
  assert.deepEqual(names(), ['chosen', 'global', 'mine']);
  assert.deepEqual(missing, ['shop/gone']);
  // A replacement with another scope leaves its old place.
  made.apply({ policies: [{ ...mine, scope: 'WorkloadSelector' }], removedPolicies: ['root/global', 'x/y'] });
  assert.deepEqual(names(), ['chosen']);
});

test('listeners hear of each batch once, with the state before and after it', () => {
  const made = store();
  const heard: (readonly WorkloadChange[])[] = [];
  let policyBatches = 0;
  const stop = made.onWorkloadChange((changes) => heard.push(changes));
  made.onPolicyChange(() => policyBatches++);
  const v1 = workloadOf({ uid: uid('w'), ips: [A] });
  const v2 = workloadOf({ uid: uid('w'), ips: [B] });
  made.apply(withWorkloads(v1, v2));
  assert.deepEqual(heard, [[{ uid: 'w', before: undefined, after: v2 }]]);
  made.apply({ removedAddresses: ['w'], policies: [policyOf(), policyOf({ name: 'other' })] });
  assert.deepEqual(heard[1], [{ uid: 'w', before: v2, after: undefined }]);
  assert.equal(policyBatches, 1);
  made.apply(withServices(serviceOf()));
  assert.equal(heard.length, 2);
  stop();
  made.apply(withWorkloads(v1));
  assert.equal(heard.length, 2);
  assert.equal(made.configVersion, 4);
});

const addressPool = [A, B, ip('10.0.0.3'), V];
const hostPool = ['x/a', 'x/b', 'y/a'] as const;
const someWorkload = fc
  .record({
    id: fc.constantFrom('Kubernetes//Pod/x/1', 'Kubernetes//Pod/x/2', 'other/3'),
    ips: fc.subarray(addressPool),
    network: fc.constantFrom('', 'east'),
    node: fc.constantFrom('n1', 'n2', ''),
    networkMode: fc.constantFrom<Workload['networkMode']>('Standard', 'HostNetwork'),
    protocol: fc.constantFrom<Workload['protocol']>('TCP', 'HBONE'),
    status: fc.constantFrom<Workload['status']>('Healthy', 'Unhealthy'),
    services: fc.subarray([...hostPool]),
  })
  .map(({ id, services, ...rest }) =>
    workloadOf({
      ...rest,
      uid: uid(id),
      name: id.slice(-1),
      services: new Map(services.map((name) => [key(name), new Map([[80, 8080]])])),
    }),
  );
const someService = fc
  .record({
    name: fc.constantFrom(...hostPool),
    vips: fc.subarray(addressPool),
    range: fc.boolean(),
    canonical: fc.boolean(),
    visibility: fc.constantFrom<Service['visibility']>('Public', 'Namespace'),
  })
  .map(({ name, vips, range, ...rest }) =>
    serviceOf({
      ...rest,
      namespace: name.slice(0, 1),
      hostname: name.slice(2),
      vips: vips.map((address) => ({ network: '', ip: address })),
      cidrVips: range ? [{ network: '', cidr: parseCidr('10.0.0.0/30')! }] : [],
    }),
  );
const somePolicy = fc
  .record({
    name: fc.constantFrom('p', 'q'),
    namespace: fc.constantFrom('x', 'y'),
    scope: fc.constantFrom<'Global' | 'Namespace' | 'WorkloadSelector'>(
      'Global',
      'Namespace',
      'WorkloadSelector',
    ),
  })
  .map((fields) => policyOf(fields));
const someUpdate: fc.Arbitrary<StoreUpdate> = fc.record({
  addresses: fc.array(
    fc.oneof(
      someWorkload.map((workload) => ({ kind: 'workload' as const, workload })),
      someService.map((service) => ({ kind: 'service' as const, service })),
    ),
    { maxLength: 3 },
  ),
  removedAddresses: fc.subarray(['Kubernetes//Pod/x/1', 'other/3', ...hostPool, 'no//such']),
  policies: fc.array(somePolicy, { maxLength: 2 }),
  removedPolicies: fc.subarray(['x/p', 'y/q']),
});

/** Everything a decision can see, as sets: the order of insertion only breaks ties. */
function visibleState(made: Store): unknown {
  const sorted = (values: Iterable<string>): string[] => [...values].sort();
  return {
    workloads: sorted([...made.workloads()].map((workload) => workload.uid)),
    byIp: ['', 'east'].flatMap((network) =>
      addressPool.map((address) => made.workloadByIp(network, address) !== undefined),
    ),
    services: [...made.services()]
      .map((entry) => [entry.key, sorted(entry.endpoints.keys())] as const)
      .sort(([left], [right]) => left.localeCompare(right)),
    endpointRecords: [...made.services()].every(({ endpoints }) =>
      [...endpoints].every(([id, workload]) => made.workload(id) === workload),
    ),
    vips: addressPool.map((address) =>
      ['x', 'y', 'z'].map((ns) => made.serviceByVip('', address, ns) !== undefined),
    ),
    hosts: ['a', 'b'].map((host) => made.serviceByHostname(host, 'x')?.key),
    staged: [...made.stagedEndpoints()]
      .map(([name, endpoints]) => [name, sorted(endpoints.keys())] as const)
      .sort(([left], [right]) => left.localeCompare(right)),
    local: sorted(made.localWorkloads('default', 'default').map((workload) => workload.uid)),
    policies: sorted(
      [...made.policies()].map((policy) => `${policy.namespace}/${policy.name}/${policy.scope}`),
    ),
    applying: ['x', 'y', 'z'].map((namespace) =>
      sorted(
        made
          .policiesFor(workloadOf({ namespace, authorizationPolicies: ['x/q'] }))
          .map((policy) => `${policy.namespace}/${policy.name}`),
      ),
    ),
  };
}

test('of services of one namespace that share an address, one that is told of again counts as the last', () => {
  const vips = [{ network: '', ip: ip('10.96.0.5') }];
  const told = (hostname: string): StoreUpdate => ({
    addresses: [{ kind: 'service', service: serviceOf({ namespace: 'x', hostname, vips }) }],
    removedAddresses: [],
    policies: [],
    removedPolicies: [],
  });
  const made = store(told('a'), told('b'), told('a'));
  assert.equal(made.serviceByVip('', ip('10.96.0.5'), 'x')?.service.hostname, 'a');
  assert.deepEqual(
    [...made.services()].map(({ service }) => service.hostname),
    ['b', 'a'],
  );
});

test('incremental updates end where a fresh start ends', () => {
  fc.assert(
    fc.property(fc.array(someUpdate, { maxLength: 8 }), (updates) => {
      const incremental = store(...updates);
      const fresh = store({
        addresses: [
          ...[...incremental.services()].map(({ service }) => ({ kind: 'service' as const, service })),
          ...[...incremental.workloads()].map((workload) => ({ kind: 'workload' as const, workload })),
        ],
        policies: [...incremental.policies()],
      });
      const state = visibleState(incremental) as { endpointRecords: boolean };
      assert.ok(state.endpointRecords, 'endpoints are the current records');
      assert.deepEqual(state, visibleState(fresh));
    }),
    { numRuns: 300 },
  );
});
