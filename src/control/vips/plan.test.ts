import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ServiceEntry, ServiceEntryAddress } from '#k8s/mesh-objects.ts';
import { cidrContains, parseCidr } from '#net/cidr.ts';
import { ip } from '#net/ip.ts';
import { planAddresses } from './plan.ts';

const POOLS = { v4: parseCidr('240.240.0.0/16')!, v6: parseCidr('2001:2::/48')! };

function entry(
  name: string,
  spec: ServiceEntry['spec'],
  rest: { created?: string; held?: ServiceEntryAddress[]; labels?: Record<string, string> } = {},
): ServiceEntry {
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: {
      name,
      namespace: 'shop',
      creationTimestamp: rest.created ?? '2026-01-01T00:00:00Z',
      labels: rest.labels ?? {},
    },
    ...(spec === undefined ? {} : { spec }),
    ...(rest.held === undefined ? {} : { status: { addresses: rest.held } }),
  };
}

const planOf = (entries: ServiceEntry[], key: string) =>
  planAddresses(entries, POOLS).addresses.get(key) ?? [];
const DNS = { hosts: ['a.example.com'], resolution: 'DNS' } as const satisfies ServiceEntry['spec'];

test('each host gets an address of either family, from the pools', () => {
  const planned = planOf(
    [entry('a', { hosts: ['a.example.com', 'b.example.com'], resolution: 'STATIC' })],
    'shop/a',
  );
  assert.deepEqual(
    planned.map(({ host }) => host),
    ['a.example.com', 'a.example.com', 'b.example.com', 'b.example.com'],
  );
  planned.forEach(({ value }, index) => {
    assert.ok(cidrContains(index % 2 === 0 ? POOLS.v4 : POOLS.v6, ip(value)), value);
    assert.ok(!['240.240.0.0', '240.240.255.255', '2001:2::'].includes(value));
  });
  assert.equal(new Set(planned.map(({ value }) => value)).size, 4);
});

test('who needs none gets none, and loses what it had', () => {
  const held = [{ value: '240.240.0.1', host: 'a.example.com' }];
  for (const [spec, labels] of [
    [{ ...DNS, resolution: 'NONE' }, {}],
    [{ hosts: ['a.example.com'] }, {}],
    [{ ...DNS, addresses: ['192.0.2.1'] }, {}],
    [{ ...DNS, hosts: ['*.example.com'] }, {}],
    [DNS, { 'networking.istio.io/enable-autoallocate-ip': 'False' }],
  ] as const)
    assert.deepEqual(planOf([entry('a', spec as ServiceEntry['spec'], { held, labels })], 'shop/a'), []);
});

test('a wildcard gets one when each call is resolved by itself', () => {
  const planned = planOf([entry('a', { hosts: ['*.example.com'], resolution: 'DYNAMIC_DNS' })], 'shop/a');
  assert.deepEqual(
    planned.map(({ host }) => host),
    ['*.example.com', '*.example.com'],
  );
});

test('what an entry has it keeps, also from an earlier pool; what is missing is added', () => {
  const held = [{ value: '241.0.0.7', host: 'a.example.com' }];
  const planned = planOf([entry('a', DNS, { held })], 'shop/a');
  assert.equal(planned.length, 2);
  assert.deepEqual(planned[0], held[0]);
  assert.ok(cidrContains(POOLS.v6, ip(planned[1]!.value)));
});

test('addresses of hosts that are gone, a second of one family, and what is none, go', () => {
  const held = [
    { value: '240.240.0.1', host: 'a.example.com' },
    { value: '240.240.0.2', host: 'a.example.com' },
    { value: '2001:2::1', host: 'a.example.com' },
    { value: '240.240.0.3', host: 'gone.example.com' },
    { value: 'nonsense', host: 'a.example.com' },
  ];
  assert.deepEqual(planOf([entry('a', DNS, { held })], 'shop/a'), [held[0], held[2]]);
});

test('of two entries with one address the older keeps it', () => {
  const held = [
    { value: '240.240.0.1', host: 'a.example.com' },
    { value: '2001:2::1', host: 'a.example.com' },
  ];
  const young = entry('a-young', DNS, { held, created: '2026-02-01T00:00:00Z' });
  const old = entry('z-old', DNS, { held, created: '2026-01-01T00:00:00Z' });
  assert.deepEqual(planOf([young, old], 'shop/z-old'), held);
  const moved = planOf([young, old], 'shop/a-young').map(({ value }) => value);
  assert.ok(!moved.includes('240.240.0.1') && !moved.includes('2001:2::1'));
});

test('an address that somebody wrote down is taken, even from the older', () => {
  const held = [{ value: '240.240.0.1', host: 'a.example.com' }];
  const old = entry('old', DNS, { held, created: '2020-01-01T00:00:00Z' });
  const stated = entry('stated', {
    hosts: ['b.example.com'],
    addresses: ['240.240.0.1'],
    resolution: 'STATIC',
  });
  assert.ok(planOf([old, stated], 'shop/old').every(({ value }) => value !== '240.240.0.1'));
});

test('a pool that is used up is said, and the other still serves', () => {
  const pools = { v4: parseCidr('240.240.0.0/30')!, v6: POOLS.v6 };
  const entries = ['a', 'b', 'c'].map((name) =>
    entry(name, { hosts: [`${name}.example.com`], resolution: 'DNS' }),
  );
  const { addresses, unserved } = planAddresses(entries, pools);
  const v4 = [...addresses.values()].flatMap((it) => it.filter(({ value }) => value.includes('.')));
  assert.deepEqual(v4.map(({ value }) => value).sort(), ['240.240.0.1', '240.240.0.2']);
  assert.deepEqual(unserved, ['shop/c c.example.com']);
  assert.equal(addresses.get('shop/c')?.length, 1);
});

const anyEntries = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
    hosts: fc.uniqueArray(fc.constantFrom('x.com', 'y.com', '*.z.com'), { minLength: 1 }),
    resolution: fc.constantFrom('NONE', 'STATIC', 'DNS', 'DYNAMIC_DNS'),
    addresses: fc.subarray(['240.240.0.2']),
    created: fc.constantFrom('2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'),
    held: fc.array(
      fc.record({
        value: fc.constantFrom('240.240.0.1', '240.240.0.2', '2001:2::1', '2001:2::2', 'x'),
        host: fc.constantFrom('x.com', 'y.com', '*.z.com'),
      }),
    ),
  }),
  { selector: ({ name }) => name, minLength: 1 },
);

test('plans do not depend on order, share no address, and stay once they are written', () => {
  fc.assert(
    fc.property(anyEntries, (sketches) => {
      const entries = sketches.map(({ name, created, held, ...spec }) =>
        entry(name, spec as ServiceEntry['spec'], { created, held }),
      );
      const { addresses } = planAddresses(entries, POOLS);
      assert.deepEqual(
        new Map([...planAddresses([...entries].reverse(), POOLS).addresses].sort()),
        new Map([...addresses].sort()),
      );
      const values = [...addresses.values()].flatMap((it) => it.map(({ value }) => value));
      assert.equal(new Set(values).size, values.length);
      const written = entries.map((it) => ({
        ...it,
        status: { addresses: [...(addresses.get(`shop/${it.metadata.name}`) ?? [])] },
      }));
      assert.deepEqual(planAddresses(written, POOLS).addresses, addresses);
    }),
    { numRuns: 300 },
  );
});
