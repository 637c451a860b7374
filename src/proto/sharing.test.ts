import assert from 'node:assert/strict';
import { test } from 'node:test';
import { workloadOf } from '#model/samples.ts';
import { serviceKey, type Workload, type WorkloadUid } from '#model/workload.ts';
import { ip } from '#net/ip.ts';
import { Sharing } from './sharing.ts';
import { decodeAddress, encodeAddress } from './workload.ts';

function pod(name: string, target: number): Workload {
  return workloadOf({
    name,
    uid: name as WorkloadUid,
    ips: [ip('10.0.0.1')],
    locality: { region: 'r', zone: 'z', subzone: 's' },
    authorizationPolicies: ['default/p'],
    services: new Map([[serviceKey('default', 'a'), new Map([[80, target]])]]),
  });
}

const through = (workload: Workload, sharing: Sharing): Workload => {
  const address = decodeAddress(encodeAddress({ kind: 'workload', workload }), sharing);
  assert.ok(address.kind === 'workload');
  return address.workload;
};

test('pods of one deployment share what they have in common, and nothing else', () => {
  const sharing = new Sharing();
  const [a, b, other] = [pod('a', 8080), pod('b', 8080), pod('c', 9090)].map((one) => through(one, sharing));
  assert.deepEqual(a, pod('a', 8080));
  assert.deepEqual(b, pod('b', 8080));
  assert.deepEqual(other, pod('c', 9090));
  assert.equal(a!.services, b!.services);
  assert.equal(a!.locality, b!.locality);
  assert.notEqual(a!.services, other!.services);
});

test('names that differ only in where they end are not taken for each other', () => {
  const sharing = new Sharing();
  const first = sharing.locality('a', 'b', '');
  const second = sharing.locality('a', '', 'b');
  assert.deepEqual(
    [first, second],
    [
      { region: 'a', zone: 'b', subzone: '' },
      { region: 'a', zone: '', subzone: 'b' },
    ],
  );
});

test('more names than it keeps are still right', () => {
  const sharing = new Sharing();
  for (let index = 0; index < 45_000; index++) assert.equal(sharing.text(`name ${index}`), `name ${index}`);
  assert.equal(sharing.text('name 0'), 'name 0');
});
