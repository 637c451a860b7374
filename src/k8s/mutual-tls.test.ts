import assert from 'node:assert/strict';
import { test } from 'node:test';
import { refusesPlaintext } from './mutual-tls.ts';
import type { MutualTlsMode, PeerAuthentication } from './objects.ts';

// By hand from control-plane.md §2.17.

const policy = (
  namespace: string,
  name: string,
  mode: MutualTlsMode | undefined,
  extra: { selector?: Record<string, string>; ports?: Record<string, MutualTlsMode>; made?: string } = {},
): PeerAuthentication => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'PeerAuthentication',
  metadata: { namespace, name, creationTimestamp: extra.made ?? '2026-01-01T00:00:00Z' },
  spec: {
    ...(mode === undefined ? {} : { mtls: { mode } }),
    ...(extra.selector === undefined ? {} : { selector: { matchLabels: extra.selector } }),
    ...(extra.ports === undefined
      ? {}
      : {
          portLevelMtls: Object.fromEntries(
            Object.entries(extra.ports).map(([port, portMode]) => [port, { mode: portMode }]),
          ),
        }),
  },
});

const WEB = { namespace: 'shop', labels: { app: 'web' } };
const strictAt = (objects: PeerAuthentication[], port = 8080): boolean =>
  refusesPlaintext(objects, 'istio-system', WEB)(port);

test('nobody says anything: plaintext is let in', () => assert.equal(strictAt([]), false));

test('workload before namespace before mesh; UNSET inherits', () => {
  const mesh = policy('istio-system', 'default', 'STRICT');
  assert.equal(strictAt([mesh]), true);
  assert.equal(strictAt([mesh, policy('shop', 'default', 'PERMISSIVE')]), false);
  assert.equal(strictAt([mesh, policy('shop', 'default', undefined)]), true);
  assert.equal(strictAt([mesh, policy('shop', 'web', 'DISABLE', { selector: { app: 'web' } })]), false);
  assert.equal(strictAt([mesh, policy('shop', 'cart', 'DISABLE', { selector: { app: 'cart' } })]), true);
  assert.equal(strictAt([policy('other', 'default', 'STRICT')]), false);
});

test('a selector in the root namespace selects nothing', () => {
  assert.equal(strictAt([policy('istio-system', 'web', 'STRICT', { selector: { app: 'web' } })]), false);
});

test('ports count only beside a selector, and go before its mode', () => {
  const own = policy('shop', 'web', 'STRICT', { selector: { app: 'web' }, ports: { 8080: 'PERMISSIVE' } });
  assert.deepEqual([strictAt([own]), strictAt([own], 9090)], [false, true]);
  const guarded = policy('shop', 'web', undefined, { selector: { app: 'web' }, ports: { 8080: 'STRICT' } });
  assert.deepEqual([strictAt([guarded]), strictAt([guarded], 9090)], [true, false]);
  assert.equal(strictAt([policy('shop', 'default', 'PERMISSIVE', { ports: { 8080: 'STRICT' } })]), false);
});

test('of two of a kind the older decides', () => {
  const young = policy('shop', 'a', 'STRICT', { made: '2026-02-01T00:00:00Z' });
  assert.equal(strictAt([young, policy('shop', 'b', 'PERMISSIVE')]), false);
});
