import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Gateway } from '#k8s/mesh-objects.ts';
import type { Service } from '#k8s/objects.ts';
import { indexesForTest } from './ambient/fixtures-index.ts';
import { debugPages } from './debug.ts';

const service = (name: string, labels: Record<string, string>): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop', labels },
  spec: { clusterIP: 'None' },
});
const gateway = (name: string, namespace: string): Gateway => ({
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind: 'Gateway',
  metadata: { name, namespace },
  status: { addresses: [{ type: 'IPAddress', value: '10.96.9.9' }] },
});

test('waypointz says which waypoint a service has, or why it has none', () => {
  const { index, ...rest } = indexesForTest();
  index.upsert('gateway', gateway('wp', 'shop'));
  index.upsert('gateway', gateway('far', 'mesh'));
  index.upsert('service', service('bound', { 'istio.io/use-waypoint': 'wp' }));
  index.upsert('service', service('lost', { 'istio.io/use-waypoint': 'gone' }));
  index.upsert(
    'service',
    service('denied', { 'istio.io/use-waypoint': 'far', 'istio.io/use-waypoint-namespace': 'mesh' }),
  );
  index.upsert('service', service('plain', {}));
  index.upsert(
    'service',
    service('canary', { 'istio.io/use-waypoint': 'wp', 'istio.io/use-waypoint-canary': 'wp' }),
  );
  index.upsert('serviceEntry', {
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name: 'goods', namespace: 'shop', labels: { 'istio.io/use-waypoint': 'wp' } },
    spec: { hosts: ['goods.example.com'] },
  });
  index.flush();
  const pages = debugPages({ ...rest, index, informers: {}, clients: () => [], options: {} } as never);
  assert.deepEqual(pages.get('waypointz')?.(), [
    { kind: 'Service', object: 'shop/bound', waypoint: 'shop/wp' },
    {
      kind: 'Service',
      object: 'shop/lost',
      waypoint: null,
      problem: 'WaypointIsNotReady',
      with: 'shop/gone',
    },
    { kind: 'Service', object: 'shop/denied', waypoint: null, problem: 'AttachmentDenied', with: 'mesh/far' },
    {
      kind: 'Service',
      object: 'shop/canary',
      waypoint: 'shop/wp',
      problem: 'CanarySameAsPrimary',
      with: 'shop/wp',
    },
    { kind: 'ServiceEntry', object: 'shop/goods', waypoint: 'shop/wp' },
  ]);
});
