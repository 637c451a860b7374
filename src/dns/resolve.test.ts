// Which names the mesh answers, with what; cases from ztunnel.md §10.2 and §10.3.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode, type RecordType } from 'dns-packet';
import fc from 'fast-check';
import { serviceOf, workloadOf } from '#model/samples.ts';
import type { Service } from '#model/service.ts';
import { createStore, type Store } from '#model/store.ts';
import { serviceKey, type Workload, type WorkloadUid } from '#model/workload.ts';
import { ip } from '#net/ip.ts';
import { parseQuery, type Query } from './message.ts';
import { type ResolveOptions, resolveQuery } from './resolve.ts';

const OPTIONS: ResolveOptions = { clusterDomain: 'cluster.local', preferredNamespace: 'shared', ipv6: true };
const CLIENT = workloadOf({ name: 'client', namespace: 'shop' });

function queryFor(name: string, type: RecordType = 'A'): Query {
  const parsed = parseQuery(encode({ type: 'query', questions: [{ name, type }] }));
  assert.equal(parsed.kind, 'query');
  return (parsed as { query: Query }).query;
}

function storeOf(services: readonly Service[], workloads: readonly Workload[] = []): Store {
  const store = createStore({ localNode: 'n1' });
  store.apply({
    addresses: [
      ...services.map((service) => ({ kind: 'service', service }) as const),
      ...workloads.map((workload) => ({ kind: 'workload', workload }) as const),
    ],
  });
  return store;
}

/** `forward`, or the result's words, the alias if any, and the addresses in order. */
function ask(
  store: Store,
  name: string,
  {
    type = 'A',
    client = CLIENT,
    ...options
  }: Partial<ResolveOptions> & { type?: RecordType; client?: Workload } = {},
): string {
  const resolution = resolveQuery(store, client, queryFor(name, type), () => 0.999, {
    ...OPTIONS,
    ...options,
  });
  if (resolution.kind === 'forward') return 'forward';
  const { canonicalName, addresses } = resolution.answer;
  return [
    resolution.result,
    ...(canonicalName === undefined ? [] : [`${canonicalName}:`]),
    ...[...addresses].sort(),
  ].join(' ');
}

const vip = (address: string, network = '') => ({ network, ip: ip(address) });
const web = serviceOf({ name: 'web', namespace: 'shop', vips: [vip('10.96.0.7'), vip('fd00::7')] });

test('a service is found by every form of its name', () => {
  const store = storeOf([web]);
  for (const name of [
    'web',
    'web.shop',
    'web.shop.svc',
    'web.shop.svc.cluster.local',
    'WEB.Shop.svc.cluster.local',
  ])
    assert.equal(ask(store, name), 'success 10.96.0.7', name);
  assert.equal(ask(store, 'web.shop', { type: 'AAAA' }), 'success fd00::7');
  assert.equal(ask(store, 'web', { client: workloadOf({ namespace: 'bank' }) }), 'forward');
  assert.equal(ask(store, 'pod.web.shop'), 'forward');
});

test('a name with a search domain appended gets an alias; one that is whole does not', () => {
  const store = storeOf([web, serviceOf({ hostname: 'api.example.com', vips: [vip('240.240.0.1')] })]);
  assert.equal(ask(store, 'api.example.com'), 'success 240.240.0.1');
  assert.equal(ask(store, 'api.example.com.shop.svc.cluster.local'), 'success api.example.com: 240.240.0.1');
  // As a resolver asks with ndots:5 and the short form.
  assert.equal(ask(store, 'web.shop.shop.svc.cluster.local'), 'success web.shop: 10.96.0.7');
});

test('wildcards: the nearest wins, and they answer for the name itself', () => {
  const store = storeOf([
    serviceOf({ name: 'far', hostname: '*.com', vips: [vip('240.240.0.1')] }),
    serviceOf({ name: 'near', hostname: '*.example.com', vips: [vip('240.240.0.2')] }),
    serviceOf({ name: 'exact', hostname: 'api.example.com', vips: [vip('240.240.0.3')] }),
  ]);
  assert.equal(ask(store, 'api.example.com'), 'success 240.240.0.3');
  assert.equal(ask(store, 'other.example.com'), 'success 240.240.0.2');
  assert.equal(ask(store, 'other.com'), 'success 240.240.0.1');
  assert.equal(ask(store, 'example.org'), 'forward');
  assert.equal(ask(store, 'other.example.com.svc.cluster.local'), 'success 240.240.0.2');
});

test('other types and classes, and what is no host name, are forwarded even for known names', () => {
  const store = storeOf([web]);
  for (const type of ['SRV', 'TXT', 'MX', 'PTR'] as const)
    assert.equal(ask(store, 'web.shop.svc.cluster.local', { type }), 'forward', type);
  assert.equal(ask(store, '.'), 'forward');
  const chaos = { ...queryFor('web.shop'), class: 3 };
  assert.equal(resolveQuery(store, CLIENT, chaos, () => 0, OPTIONS).kind, 'forward');
});

test('a known name without such an address exists: no records, not forwarded', () => {
  const v4 = serviceOf({ name: 'v4', namespace: 'shop', vips: [vip('10.96.0.8')] });
  const store = storeOf([v4, { ...web, ipFamilies: 'IPv4' }]);
  assert.equal(ask(store, 'v4', { type: 'AAAA' }), 'no records');
  assert.equal(ask(store, 'web', { type: 'AAAA' }), 'service does not support this record type');
  assert.equal(ask(store, 'v4', { type: 'AAAA', ipv6: false }), 'service does not support this record type');
  assert.equal(ask(store, 'unknown', { type: 'AAAA', ipv6: false }), 'forward');
});

test('addresses of the client’s own network only', () => {
  const store = storeOf([
    serviceOf({ name: 'web', namespace: 'shop', vips: [vip('10.96.0.7', 'east'), vip('10.96.0.9', 'west')] }),
  ]);
  assert.equal(ask(store, 'web', { client: { ...CLIENT, network: 'west' } }), 'success 10.96.0.9');
  assert.equal(ask(store, 'web', { client: { ...CLIENT, network: 'north' } }), 'no records');
});

test('headless: one address of the family per endpoint that may be used, each once', () => {
  const db = serviceOf({ name: 'db', namespace: 'shop' });
  const key = serviceKey('shop', db.hostname);
  const endpoint = (name: string, ips: readonly string[], more: Partial<Workload> = {}): Workload =>
    workloadOf({
      uid: name as WorkloadUid,
      name,
      namespace: 'shop',
      ips: ips.map(ip),
      services: new Map([[key, new Map()]]),
      ...more,
    });
  const endpoints = [
    endpoint('a', ['10.1.0.1', '10.1.0.9', 'fd00::1']),
    endpoint('b', ['10.1.0.2']),
    endpoint('twin', ['10.1.0.2']),
    endpoint('sick', ['10.1.0.3'], { status: 'Unhealthy' }),
  ];
  const store = storeOf([db], endpoints);
  assert.equal(ask(store, 'db'), 'success 10.1.0.1 10.1.0.2');
  assert.equal(ask(store, 'db', { type: 'AAAA' }), 'success fd00::1');
  const loadBalancer = { routingPreferences: [], mode: 'Standard', healthPolicy: 'AllowAll' } as const;
  assert.equal(
    ask(storeOf([{ ...db, loadBalancer }], endpoints), 'db'),
    'success 10.1.0.1 10.1.0.2 10.1.0.3',
  );
  assert.equal(
    ask(storeOf([{ ...db, ipFamilies: 'IPv4' }], endpoints), 'db', { type: 'AAAA' }),
    'service does not support this record type',
  );
  assert.equal(ask(storeOf([db]), 'db'), 'no records');
});

test('a service without an address is only answered for when it is a Kubernetes one', () => {
  const store = storeOf([serviceOf({ hostname: 'api.example.com' })]);
  assert.equal(ask(store, 'api.example.com'), 'forward');
});

test('a host name that several namespaces have: own namespace, canonical, preferred, first', () => {
  const one = (namespace: string, last: number, more: Partial<Service> = {}): Service =>
    serviceOf({
      name: 'api',
      namespace,
      hostname: 'api.example.com',
      vips: [vip(`240.240.0.${last}`)],
      ...more,
    });
  const first = one('first', 1);
  const shared = one('shared', 2);
  const canonical = one('canon', 3, { canonical: true });
  const own = one('shop', 4);
  const answer = (...services: Service[]): string => ask(storeOf(services), 'api.example.com');
  assert.equal(answer(first, shared, canonical, own), 'success 240.240.0.4');
  assert.equal(answer(first, shared, canonical), 'success 240.240.0.3');
  assert.equal(answer(canonical, shared), 'success 240.240.0.3');
  assert.equal(answer(first, shared), 'success 240.240.0.2');
  assert.equal(answer(first, one('other', 5)), 'success 240.240.0.1');
});

test('what the client may not see, it does not find: another namespace’s service, or forwarded', () => {
  const hidden = serviceOf({
    name: 'api',
    namespace: 'bank',
    hostname: 'api.example.com',
    vips: [vip('240.240.0.1')],
    canonical: true,
    visibility: 'Namespace',
  });
  assert.equal(ask(storeOf([hidden]), 'api.example.com'), 'forward');
  assert.equal(
    ask(storeOf([hidden]), 'api.example.com', { client: workloadOf({ namespace: 'bank' }) }),
    'success 240.240.0.1',
  );
  const open = serviceOf({ namespace: 'x', hostname: 'api.example.com', vips: [vip('240.240.0.2')] });
  assert.equal(ask(storeOf([hidden, open]), 'api.example.com'), 'success 240.240.0.2');
});

test('the order changes from answer to answer, the set does not', () => {
  const addresses = Array.from({ length: 8 }, (_, index) => vip(`10.96.1.${index}`));
  const store = storeOf([serviceOf({ name: 'many', namespace: 'shop', vips: addresses })]);
  const first = new Set<string>();
  fc.assert(
    fc.property(
      fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })),
      (chances) => {
        const resolution = resolveQuery(
          store,
          CLIENT,
          queryFor('many'),
          () => chances.next().value as number,
          OPTIONS,
        );
        assert.ok(resolution.kind === 'answer');
        assert.deepEqual([...resolution.answer.addresses].sort(), addresses.map((one) => one.ip).sort());
        first.add(resolution.answer.addresses[0]!);
      },
    ),
  );
  assert.ok(first.size > 1);
});
