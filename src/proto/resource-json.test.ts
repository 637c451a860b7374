import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readableJson, resourceJson } from './resource-json.ts';

// By hand: protobuf wire format of istio.workload.Address (field 1 workload) and Workload (1 name, 2 namespace, 3 addresses,
// 5 tunnel_protocol, 20 uid); proto3 JSON: lowerCamel names, enums by name, bytes in base64, defaults left out.
const WORKLOAD = Buffer.from(
  [
    '0a03',
    Buffer.from('web').toString('hex'),
    '1204',
    Buffer.from('shop').toString('hex'),
    '1a04',
    '0af40102',
    '2801',
    'a20103',
    Buffer.from('u/1').toString('hex'),
  ].join(''),
  'hex',
);
const JSON_OF_IT = {
  name: 'web',
  namespace: 'shop',
  addresses: ['CvQBAg=='],
  tunnelProtocol: 'HBONE',
  uid: 'u/1',
};

test('an address and the workload in it, as an Any is written', () => {
  const address = Buffer.concat([Buffer.from([0x0a, WORKLOAD.length]), WORKLOAD]);
  assert.deepEqual(resourceJson('type.googleapis.com/istio.workload.Address', address), {
    '@type': 'type.googleapis.com/istio.workload.Address',
    workload: JSON_OF_IT,
  });
  assert.deepEqual(resourceJson('type.googleapis.com/istio.workload.Workload', WORKLOAD), {
    '@type': 'type.googleapis.com/istio.workload.Workload',
    ...JSON_OF_IT,
  });
});

test('for people: addresses as text, wherever they stand', () => {
  const address = Buffer.concat([Buffer.from([0x0a, WORKLOAD.length]), WORKLOAD]);
  assert.deepEqual(readableJson('type.googleapis.com/istio.workload.Address', address), {
    workload: { ...JSON_OF_IT, addresses: ['10.244.1.2'] },
  });
  // Address.service (2) of hostname (3) "h", addresses (4) of network (1) "n" and address (2) ::1.
  const loopback = `${'00'.repeat(15)}01`;
  const fields = Buffer.from(`1a016822150a016e1210${loopback}`, 'hex');
  const wrapped = Buffer.concat([Buffer.from([0x12, fields.length]), fields]);
  assert.deepEqual(readableJson('type.googleapis.com/istio.workload.Address', wrapped), {
    service: { hostname: 'h', addresses: [{ network: 'n', address: '::1' }] },
  });
});

test('a type that is not served has no JSON', () => {
  assert.throws(
    () => resourceJson('type.googleapis.com/envoy.Cluster', new Uint8Array()),
    /no type of resource/,
  );
});
