import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createStore } from '#model/store.ts';
import type { Workload, WorkloadUid } from '#model/workload.ts';
import { followLocalIdentities } from './prefetch.ts';

const pod = (uid: string, node: string, more: Partial<Workload> = {}): Workload =>
  ({
    uid: uid as WorkloadUid,
    name: uid,
    namespace: 'shop',
    serviceAccount: 'cart',
    trustDomain: 'cluster.local',
    ips: [],
    network: '',
    protocol: 'HBONE',
    networkMode: 'Standard',
    node,
    nativeTunnel: false,
    services: new Map(),
    authorizationPolicies: [],
    ...more,
  }) as unknown as Workload;

test('certificates of this node’s mesh workloads are asked for once and given up with the last', () => {
  const store = createStore({ localNode: 'n1' });
  const calls: string[] = [];
  followLocalIdentities(
    store,
    {
      prefetch: (identity) => calls.push(`prefetch ${identity}`),
      forget: (identity) => calls.push(`forget ${identity}`),
    },
    'n1',
  );
  const put = (...workloads: Workload[]): void =>
    store.apply({ addresses: workloads.map((workload) => ({ kind: 'workload', workload })) });
  const id = 'spiffe://cluster.local/ns/shop/sa/cart';

  put(pod('elsewhere', 'n2'), pod('plain', 'n1', { protocol: 'TCP' }));
  assert.deepEqual(calls, []);
  put(pod('a', 'n1'));
  put(pod('b', 'n1'));
  assert.deepEqual(calls.splice(0), [`prefetch ${id}`, `prefetch ${id}`]);
  // A change that leaves the identity alone asks for nothing.
  put(pod('a', 'n1', { status: 'Unhealthy' }));
  store.apply({ removedAddresses: ['a'] });
  assert.deepEqual(calls, []);
  // Un-enrolled: plain TCP from now on.
  put(pod('b', 'n1', { protocol: 'TCP' }));
  assert.deepEqual(calls.splice(0), [`forget ${id}`]);
  put(pod('b', 'n1', { trustDomain: 'other' }));
  put(pod('b', 'n1'));
  assert.deepEqual(calls, [
    'prefetch spiffe://other/ns/shop/sa/cart',
    `prefetch ${id}`,
    'forget spiffe://other/ns/shop/sa/cart',
  ]);
});
