// Ranking and chance of ztunnel.md §6.4.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ip } from '#net/ip.ts';
import { selectEndpoint, weighted } from './load-balance.ts';
import { serviceOf, workloadOf } from './samples.ts';
import type { LoadBalancing, Service } from './service.ts';
import type { ServiceEntry } from './service-index.ts';
import { type ServiceKey, serviceKey, type Workload } from './workload.ts';

const source = workloadOf({
  name: 'client',
  node: 'n1',
  locality: { region: 'r1', zone: 'z1', subzone: 's1' },
});

function entryOf(service: Partial<Service>, endpoints: readonly Partial<Workload>[]): ServiceEntry {
  const made = serviceOf({ ports: new Map([[80, 8080]]), ...service });
  const key: ServiceKey = serviceKey(made.namespace, made.hostname);
  const workloads = endpoints.map((fields, index) =>
    workloadOf({
      name: `e${index}`,
      ips: [ip(`10.0.0.${index + 1}`)],
      services: new Map([[key, new Map([[80, 8080]])]]),
      ...fields,
    }),
  );
  return { key, service: made, endpoints: new Map(workloads.map((workload) => [workload.uid, workload])) };
}

/** Names of everyone who can be chosen. */
function chosen(entry: ServiceEntry, mode: 'standard' | 'waypoint' = 'standard', port = 80): string[] {
  const names = new Set<string>();
  for (let step = 0; step < 100; step++) {
    const selection = selectEndpoint(entry, port, source, mode, () => step / 100);
    if (selection.kind === 'chosen') names.add(selection.choice.workload.name);
  }
  return [...names].sort();
}

const preferring = (
  mode: LoadBalancing['mode'],
  ...routingPreferences: LoadBalancing['routingPreferences'][number][]
): { loadBalancer: LoadBalancing } => ({
  loadBalancer: { mode, routingPreferences, healthPolicy: 'OnlyHealthy' },
});
const at = (region: string, zone: string, subzone = ''): Pick<Workload, 'locality'> => ({
  locality: { region, zone, subzone },
});

test('without a preference everybody healthy is a candidate', () => {
  assert.deepEqual(chosen(entryOf({}, [{}, {}, { status: 'Unhealthy' }])), ['e0', 'e1']);
});

test('unhealthy endpoints serve when the service allows all', () => {
  const loadBalancer = { mode: 'Standard', routingPreferences: [], healthPolicy: 'AllowAll' } as const;
  assert.deepEqual(chosen(entryOf({ loadBalancer }, [{}, { status: 'Unhealthy' }])), ['e0', 'e1']);
});

test('without an address only another network’s gateway can help', () => {
  const networkGateway = {
    destination: { kind: 'address', address: { network: 'west', ip: ip('192.0.2.1') } },
    hbonePort: 15_008,
  } as const;
  const entry = entryOf({}, [
    { ips: [] },
    { ips: [], hostname: 'db.example.com' },
    { ips: [], network: 'west' },
    { ips: [], network: 'west', networkGateway },
    { ips: [], networkGateway },
  ]);
  assert.deepEqual(chosen(entry), ['e1', 'e3']);
});

test('STRICT: every scope or nobody', () => {
  const endpoints = [{ ...at('r1', 'z1') }, { ...at('r1', 'z2') }, { ...at('r2', 'z1') }];
  assert.deepEqual(chosen(entryOf(preferring('Strict', 'Region', 'Zone'), endpoints)), ['e0']);
  // Each scope compares its own string alone.
  assert.deepEqual(chosen(entryOf(preferring('Strict', 'Zone'), endpoints)), ['e0', 'e2']);
  const nobody = selectEndpoint(
    entryOf(preferring('Strict', 'Node'), endpoints),
    80,
    source,
    'standard',
    () => 0,
  );
  assert.match(nobody.kind === 'none' ? nobody.explain : '', /strict routing preference/);
});

test('FAILOVER: the group that matches most leading scopes', () => {
  const service = preferring('Failover', 'Region', 'Zone', 'Subzone');
  assert.deepEqual(
    chosen(entryOf(service, [at('r1', 'z1', 's1'), at('r1', 'z1', 's2'), at('r2', 'z1', 's1')])),
    ['e0'],
  );
  assert.deepEqual(
    chosen(entryOf(service, [at('r1', 'z2', 's1'), at('r1', 'z3', 's1'), at('r2', 'z1', 's1')])),
    ['e0', 'e1'],
  );
  assert.deepEqual(chosen(entryOf(service, [at('r2', 'z1', 's1'), at('r3', 'z1', 's1')])), ['e0', 'e1']);
});

test('PASSTHROUGH, where it is balanced at all: preferences as in FAILOVER', () => {
  const endpoints = [{ ...at('r1', 'z1') }, { ...at('r1', 'z2') }];
  assert.deepEqual(chosen(entryOf(preferring('Passthrough', 'Region', 'Zone'), endpoints)), ['e0']);
});

test('FAILOVER with the network first: neighbours before any stranger, the nearest stranger next', () => {
  const service = preferring('Failover', 'Network', 'Region', 'Zone');
  const stranger = { network: 'west' };
  const neighbour = { ...at('r9', 'z9') };
  const near = { ...stranger, ...at('r1', 'z1') };
  const far = { ...stranger, ...at('r2', 'z1') };
  assert.deepEqual(chosen(entryOf(service, [near, neighbour, far])), ['e1']);
  assert.deepEqual(chosen(entryOf(service, [near, far])), ['e0']);
});

test('capacity is a weight, 0 is never chosen, all 0 is nobody', () => {
  const entry = entryOf({}, [{ capacity: 1 }, { capacity: 3 }, { capacity: 0 }]);
  const counts: Record<string, number> = {};
  for (let step = 0; step < 100; step++) {
    const selection = selectEndpoint(entry, 80, source, 'standard', () => step / 100);
    assert.equal(selection.kind, 'chosen');
    if (selection.kind === 'chosen') {
      const { name } = selection.choice.workload;
      counts[name] = (counts[name] ?? 0) + 1;
    }
  }
  assert.deepEqual(counts, { e0: 25, e1: 75 });
  const nobody = selectEndpoint(entryOf({}, [{ capacity: 0 }]), 80, source, 'standard', () => 0);
  assert.match(nobody.kind === 'none' ? nobody.explain : '', /capacity 0/);
});

test('a waypoint may serve a port its service does not define, through an application tunnel with a port', () => {
  const tunnel = { protocol: 'PROXY', port: 15_088 } as const;
  const plain = entryOf({ ports: new Map() }, [{ services: new Map() }]);
  assert.deepEqual(chosen(plain, 'waypoint', 15_008), []);
  const tunnelled = entryOf({ ports: new Map() }, [{ services: new Map(), applicationTunnel: tunnel }]);
  const selection = selectEndpoint(tunnelled, 15_008, source, 'waypoint', () => 0);
  assert.equal(selection.kind === 'chosen' && selection.choice.port, 15_008);
  assert.deepEqual(chosen(tunnelled, 'standard', 15_008), []);
});

test('weighted never picks weight 0 and always picks somebody otherwise', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(5), { maxLength: 6 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (weights, chance) => {
        const picked = weighted(
          [...weights.keys()],
          (index) => weights[index]!,
          () => chance,
        );
        if (weights.every((weight) => weight === 0)) assert.equal(picked, undefined);
        else assert.ok(picked !== undefined && weights[picked]! > 0);
      },
    ),
  );
});

test('an endpoint to avoid is left out, then its group; it is taken when nobody else can be', () => {
  const avoiding = (entry: ServiceEntry, ...names: string[]): string[] => {
    const avoid = new Set(
      [...entry.endpoints.values()].filter(({ name }) => names.includes(name)).map(({ uid }) => uid),
    );
    const found = new Set<string>();
    for (let step = 0; step < 100; step++) {
      const selection = selectEndpoint(entry, 80, source, 'standard', () => step / 100, avoid);
      if (selection.kind === 'chosen') found.add(selection.choice.workload.name);
    }
    return [...found].sort();
  };
  const plain = entryOf({}, [{}, {}, {}]);
  assert.deepEqual(avoiding(plain, 'e0'), ['e1', 'e2']);
  assert.deepEqual(avoiding(plain, 'e0', 'e1', 'e2'), ['e0', 'e1', 'e2']);
  const zones = [{ ...at('r1', 'z1') }, { ...at('r1', 'z2') }];
  assert.deepEqual(avoiding(entryOf(preferring('Failover', 'Region', 'Zone'), zones), 'e0'), ['e1']);
  // Strict stays strict: the only one in place is better than one that may not be used.
  assert.deepEqual(avoiding(entryOf(preferring('Strict', 'Region', 'Zone'), zones), 'e0'), ['e0']);
  assert.deepEqual(avoiding(entryOf({}, [{}, { capacity: 0 }]), 'e0'), ['e0']);
});
