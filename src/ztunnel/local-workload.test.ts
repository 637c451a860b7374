import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { createStore } from '#model/store.ts';
import type { Workload, WorkloadUid } from '#model/workload.ts';
import { createLocalWorkload } from './local-workload.ts';

const info = { name: 'cart-1', namespace: 'shop', serviceAccount: 'cart' };
const cart = {
  uid: 'u' as WorkloadUid,
  ...info,
  ips: [],
  network: '',
  protocol: 'HBONE',
  networkMode: 'Standard',
  node: 'n1',
  services: new Map(),
  authorizationPolicies: [],
} as unknown as Workload;

const isCode = (code: string) => (error: unknown) => error instanceof MeshError && error.code === code;

test('a record that is there is given at once; one that comes is waited for', async () => {
  const store = createStore({ localNode: 'n1' });
  const scope = new Scope('test');
  const local = createLocalWorkload({ store, scope }, info);
  const first = local.get();
  const second = local.get();
  store.apply({ addresses: [{ kind: 'workload', workload: cart }] });
  assert.equal(await first, cart);
  assert.equal(await second, cart);
  assert.equal(await local.get(), cart);
  scope.close();
});

test('a record that does not come is a refusal, and the next connection waits anew', async () => {
  const store = createStore({ localNode: 'n1' });
  const scope = new Scope('test');
  const local = createLocalWorkload({ store, scope }, info, 1);
  const hold = setInterval(() => {}, 1000);
  await assert.rejects(local.get(), isCode('WORKLOAD_UNKNOWN'));
  const again = local.get();
  store.apply({ addresses: [{ kind: 'workload', workload: cart }] });
  assert.equal(await again, cart);
  clearInterval(hold);
  scope.close();
});

test('removing the pod ends the wait', async () => {
  const store = createStore({ localNode: 'n1' });
  const scope = new Scope('test');
  const waiting = createLocalWorkload({ store, scope }, info).get();
  scope.close();
  await assert.rejects(waiting, isCode('DRAINED'));
});
