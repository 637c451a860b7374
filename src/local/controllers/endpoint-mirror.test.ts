import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Endpoints, Service } from '#k8s/objects.ts';
import { isMirrored, mirrorOf } from './endpoint-mirror.ts';

const endpoints = (over: Partial<Endpoints> = {}): Endpoints => ({
  apiVersion: 'v1',
  kind: 'Endpoints',
  metadata: { name: 'db', namespace: 'shop' },
  ...over,
});
const service = (spec: Service['spec']): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'db', namespace: 'shop' },
  spec,
});

test('each subset becomes a slice of each family; addresses that are not ready stay so', () => {
  const slices = mirrorOf(
    endpoints({
      subsets: [
        {
          addresses: [{ ip: '198.51.100.1', hostname: 'one' }, { ip: 'fd00::1' }],
          notReadyAddresses: [{ ip: '198.51.100.2' }],
          ports: [{ name: 'sql', port: 5432 }],
        },
      ],
    }),
  );
  const ports = [{ name: 'sql', port: 5432, protocol: 'TCP' }];
  assert.deepEqual(slices, [
    {
      addressType: 'IPv4',
      ports,
      endpoints: [
        { addresses: ['198.51.100.1'], conditions: { ready: true }, hostname: 'one' },
        { addresses: ['198.51.100.2'], conditions: { ready: false } },
      ],
    },
    { addressType: 'IPv6', ports, endpoints: [{ addresses: ['fd00::1'], conditions: { ready: true } }] },
  ]);
});

test('mirrored only for a service without selector, and not where they say no', () => {
  const plain = service({ ports: [{ port: 1 }] });
  assert.equal(isMirrored(endpoints(), plain), true);
  assert.equal(isMirrored(endpoints(), service({ selector: { app: 'db' } })), false);
  assert.equal(isMirrored(endpoints(), service({ type: 'ExternalName', externalName: 'a.b' })), false);
  assert.equal(isMirrored(endpoints(), undefined), false);
  const labelled = endpoints();
  labelled.metadata.labels = { 'endpointslice.kubernetes.io/skip-mirror': 'true' };
  assert.equal(isMirrored(labelled, plain), false);
  const leader = endpoints();
  leader.metadata.annotations = { 'control-plane.alpha.kubernetes.io/leader': '{}' };
  assert.equal(isMirrored(leader, plain), false);
});
