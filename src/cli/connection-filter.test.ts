import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ConnectionWish, isWanted, matchesEnd } from './connection-filter.ts';
import type { AccessRecord } from './screen/access-line.ts';

const record = (fields: Readonly<Record<string, string>>, message = 'connection complete'): AccessRecord => ({
  time: '2026-09-01T08:15:30Z',
  level: 'info',
  message,
  fields: new Map(
    Object.entries({
      'src.addr': '10.244.1.3:41000',
      'src.workload': 'web-5f7c9d8b6-x2x4z',
      'src.namespace': 'shop',
      'dst.addr': '10.244.2.3:15008',
      'dst.hbone_addr': '10.244.2.3:8080',
      'dst.service': 'cart.shop.svc.cluster.local',
      'dst.workload': 'cart-7d9f6c5b4-abcde',
      'dst.namespace': 'shop',
      direction: 'inbound',
      ...fields,
    }),
  ),
});

test('an end is found by workload, deployment, service or address, and by namespace', () => {
  const cases: readonly ['src' | 'dst', string, boolean][] = [
    ['src', 'web', true],
    ['src', 'web-5f7c9d8b6-x2x4z', true],
    ['src', 'shop/web', true],
    ['src', 'other/web', false],
    ['src', 'shop/', true],
    ['src', 'we', false],
    ['src', '10.244.1.3', true],
    ['src', 'cart', false],
    ['dst', 'cart', true],
    ['dst', 'cart.shop.svc.cluster.local', true],
    ['dst', '10.244.2.3', true],
  ];
  for (const [end, name, expected] of cases)
    assert.equal(matchesEnd(record({}), end, name), expected, `${end} ${name}`);
  // `web` does not mean `web-admin`.
  assert.equal(matchesEnd(record({ 'src.workload': 'web-admin-5f7c9d8b6-x2x4z' }), 'src', 'web'), false);
  assert.equal(matchesEnd(record({ 'src.workload': 'db-0' }), 'src', 'db'), true);
});

test('wishes are taken together', () => {
  const cases: readonly [ConnectionWish, boolean][] = [
    [{}, true],
    [{ namespace: 'shop' }, true],
    [{ namespace: 'other' }, false],
    [{ pod: 'cart' }, true],
    [{ pod: 'ledger' }, false],
    [{ from: 'web', to: 'cart' }, true],
    [{ from: 'cart', to: 'web' }, false],
    [{ denied: true }, false],
  ];
  for (const [wish, expected] of cases)
    assert.equal(isWanted(record({}), wish), expected, JSON.stringify(wish));
  assert.equal(isWanted(record({ error: 'denied' }), { denied: true }), true);
});

test('one record a connection unless both ends are wanted', () => {
  const near = record({ direction: 'outbound' });
  assert.equal(isWanted(near, {}), false);
  assert.equal(isWanted(near, { all: true }), true);
});
