import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Scope } from '#base/scope.ts';
import type { ServiceEntry } from '#k8s/mesh-objects.ts';
import type { Namespace } from '#k8s/objects.ts';
import { statusError } from '#k8s/status.ts';
import { parseCidr } from '#net/cidr.ts';
import { silentLogger } from '#telemetry/log.ts';
import { Hand } from '../fixtures-informer.ts';
import { startVipAllocator } from './allocator.ts';

const POOLS = { v4: parseCidr('240.240.0.0/16')!, v6: parseCidr('2001:2::/48')! };

const entry = (name: string, resourceVersion: string, status?: ServiceEntry['status']): ServiceEntry => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'ServiceEntry',
  metadata: { name, namespace: 'shop', resourceVersion },
  spec: { hosts: [`${name}.example.com`], resolution: 'DNS' },
  ...(status === undefined ? {} : { status }),
});

type Operation = { op: string; path: string; value: { addresses?: { value: string; host: string }[] } };

function setUp(answer: (name: string) => void = () => {}) {
  const serviceEntries = new Hand<ServiceEntry>();
  const namespaces = new Hand<Namespace>();
  const hidden = new Set<string>();
  const patches: { name: string; operations: Operation[]; options: unknown }[] = [];
  const scope = new Scope('test');
  startVipAllocator(
    {
      client: {
        patch: (async (_resource: unknown, name: string, kind: string, body: unknown, options: unknown) => {
          assert.equal(kind, 'json');
          patches.push({ name, operations: body as Operation[], options });
          answer(name);
          return {};
        }) as never,
      },
      serviceEntries: serviceEntries.informer,
      isOurs: ({ metadata }) => !hidden.has(metadata.name),
      decidedBy: [namespaces.informer],
      schedule: setImmediate,
      log: silentLogger,
      scope,
    },
    POOLS,
  );
  return { serviceEntries, namespaces, hidden, patches, scope };
}

const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
};

test('an entry without addresses gets them in its status, if it is still the one that was seen', async () => {
  const { serviceEntries, patches, scope } = setUp();
  serviceEntries.put(entry('a', '7'));
  await settled();
  assert.equal(patches.length, 1);
  const { operations, options } = patches[0]!;
  assert.deepEqual(options, { namespace: 'shop', subresource: 'status' });
  assert.deepEqual(operations[0], { op: 'test', path: '/metadata/resourceVersion', value: '7' });
  assert.equal(operations[1]?.path, '/status');
  const addresses = operations[1]?.value.addresses ?? [];
  assert.deepEqual(
    addresses.map(({ host }) => host),
    ['a.example.com', 'a.example.com'],
  );

  serviceEntries.put(entry('a', '8', { addresses }));
  await settled();
  assert.equal(patches.length, 1, 'what is there is not written again');
  scope.close();
});

test('a status with other statements keeps them', async () => {
  const { serviceEntries, patches, scope } = setUp();
  serviceEntries.put(entry('a', '7', { conditions: [] }));
  await settled();
  assert.equal(patches[0]?.operations[1]?.path, '/status/addresses');
  scope.close();
});

test('entries that are not ours are left alone until they are', async () => {
  const { serviceEntries, namespaces, hidden, patches, scope } = setUp();
  hidden.add('a');
  serviceEntries.put(entry('a', '7'));
  await settled();
  assert.equal(patches.length, 0);
  hidden.delete('a');
  namespaces.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
  await settled();
  assert.deepEqual(
    patches.map(({ name }) => name),
    ['a'],
  );
  scope.close();
});

test('a write that came too late is not repeated blindly: the newer object is looked at', async () => {
  const { serviceEntries, patches, scope } = setUp((name) => {
    if (patches.length > 1) return;
    serviceEntries.put(entry(name, '8', { addresses: patches[0]?.operations[1]?.value.addresses ?? [] }));
    throw statusError(422, { code: 422, reason: 'Invalid', message: 'test failed' }, 'PATCH');
  });
  serviceEntries.put(entry('a', '7'));
  await settled();
  assert.equal(patches.length, 1);
  scope.close();
});

test('after the end nothing is written', async () => {
  const { serviceEntries, patches, scope } = setUp();
  serviceEntries.put(entry('a', '7'));
  scope.close();
  await settled();
  assert.equal(patches.length, 0);
});
