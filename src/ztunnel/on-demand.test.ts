import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serviceOf, workloadOf } from '#model/samples.ts';
import { createStore, type Store } from '#model/store.ts';
import { type GatewayRef, serviceKey, type WorkloadUid } from '#model/workload.ts';
import { ip } from '#net/ip.ts';
import type { DemandOutcome } from '#xds/demands.ts';
import { prepareInbound, prepareOutbound } from './on-demand.ts';

const SOURCE = workloadOf({ name: 'client', namespace: 'shop', network: 'n' });
const DESTINATION = ip('10.0.0.7');
const gateway = (address: string): GatewayRef => ({
  destination: { kind: 'address', address: { network: 'n', ip: ip(address) } },
  hbonePort: 15_008,
});
const named: GatewayRef = {
  destination: { kind: 'hostname', namespace: 'gw', hostname: 'east.gw' },
  hbonePort: 15_008,
};

/** `answers` puts into the store what a name stands for. */
async function asked(
  store: Store,
  answers: Readonly<Record<string, () => void>> = {},
  outcome: DemandOutcome = 'answered',
): Promise<string[]> {
  const names: string[] = [];
  const demand = async (name: string): Promise<DemandOutcome> => {
    names.push(name);
    answers[name]?.();
    return outcome;
  };
  await prepareOutbound({ view: store, demand, network: 'n' }, SOURCE, DESTINATION);
  return names;
}

const empty = (): Store => createStore({ localNode: 'n1' });

test('an unknown destination is asked for once, even if there is nothing', async () => {
  assert.deepEqual(await asked(empty()), ['n/10.0.0.7']);
});

test('what is known is not asked for', async () => {
  const store = empty();
  store.apply({
    addresses: [{ kind: 'workload', workload: workloadOf({ network: 'n', ips: [DESTINATION] }) }],
  });
  assert.deepEqual(await asked(store), []);
});

test('the waypoint of what was found is asked for next', async () => {
  const store = empty();
  const found = workloadOf({ network: 'n', ips: [DESTINATION], waypoint: gateway('10.0.0.9') });
  const put = (): void => store.apply({ addresses: [{ kind: 'workload', workload: found }] });
  assert.deepEqual(await asked(store, { 'n/10.0.0.7': put }), ['n/10.0.0.7', 'n/10.0.0.9']);
});

test('all waypoints of a service, and the gateways of endpoints on other networks, each once', async () => {
  const store = empty();
  const service = serviceOf({
    namespace: 'shop',
    vips: [{ network: 'n', ip: DESTINATION }],
    waypoint: gateway('10.0.0.8'),
    weightedWaypoints: [
      { destination: gateway('10.0.0.8'), weight: 1 },
      { destination: gateway('10.0.0.9'), weight: 1 },
    ],
  });
  const services = new Map([[serviceKey('shop', service.hostname), new Map()]]);
  const endpoint = (name: string, network: string) =>
    ({
      kind: 'workload',
      workload: workloadOf({ name, uid: name as WorkloadUid, network, networkGateway: named, services }),
    }) as const;
  store.apply({
    addresses: [
      { kind: 'service', service },
      endpoint('here', 'n'),
      endpoint('there', 'm'),
      endpoint('too', 'm'),
    ],
  });
  assert.deepEqual(await asked(store), ['n/10.0.0.8', 'n/10.0.0.9', 'gw/east.gw']);
  store.apply({
    addresses: [{ kind: 'service', service: serviceOf({ namespace: 'gw', hostname: 'east.gw' }) }],
  });
  assert.deepEqual(await asked(store), ['n/10.0.0.8', 'n/10.0.0.9']);
});

test('no answer and an unreadable one refuse: passing through could be plaintext in place of a tunnel', async () => {
  await assert.rejects(asked(empty(), {}, 'silent'), {
    code: 'XDS_SILENT',
    message: /what n\/10\.0\.0\.7 is$/,
  });
  await assert.rejects(asked(empty(), {}, 'refused'), { code: 'XDS_RESOURCE_REJECTED' });
});

/** What a tunnel to `authority` asks for. */
async function askedInbound(
  store: Store,
  authority: string,
  outcome: DemandOutcome = 'answered',
): Promise<string[]> {
  const names: string[] = [];
  const demand = async (name: string): Promise<DemandOutcome> => {
    names.push(name);
    return outcome;
  };
  await prepareInbound({ view: store, demand, clusterDomain: 'cluster.local' }, SOURCE, authority);
  return names;
}

test('a tunnel to a host name asks for its service, in the namespace that the name says or the workload’s own', async () => {
  assert.deepEqual(await askedInbound(empty(), 'web.front.svc.cluster.local:80'), [
    'front/web.front.svc.cluster.local',
  ]);
  assert.deepEqual(await askedInbound(empty(), 'api.example.com:443'), ['shop/api.example.com']);
  assert.deepEqual(await askedInbound(empty(), 'a.b.c.svc.cluster.local:443'), [
    'shop/a.b.c.svc.cluster.local',
  ]);
});

test('a tunnel to an address, to a known service, or to nonsense asks for nothing', async () => {
  const store = empty();
  store.apply({
    addresses: [{ kind: 'service', service: serviceOf({ namespace: 'x', hostname: 'known.x' }) }],
  });
  for (const authority of ['10.0.0.7:80', '[::1]:80', 'known.x:80', 'no port', ''])
    assert.deepEqual(await askedInbound(store, authority), []);
});

test('a tunnel whose service the control plane does not tell in time is refused', async () => {
  await assert.rejects(askedInbound(empty(), 'a.b:1', 'silent'), { code: 'XDS_SILENT' });
});
