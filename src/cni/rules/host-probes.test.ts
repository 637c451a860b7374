import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ip } from '#net/ip.ts';
import { createHostProbes } from './host-probes.ts';
import { nftHostRules } from './nft-host.ts';

test('pods that swap their addresses at the same time (node restart) both keep their probes', async () => {
  const applied: string[] = [];
  const probes = createHostProbes(
    nftHostRules({ ipv6: false, kubeletUid: 0 }, async (text) => {
      // The kernel answers later; both changes are under way meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
      applied.push(text);
    }),
  );
  const [a, b] = [ip('10.244.1.4'), ip('10.244.1.6')];
  await probes.install([
    { ip: a, uid: 'web' },
    { ip: b, uid: 'ledger' },
  ]);
  await Promise.all([probes.set('web', [b]), probes.set('ledger', [a])]);
  // Each address is added after it was last removed.
  const changes = applied.slice(1).join('\n');
  for (const address of [a, b]) {
    const lines = changes.split('\n').filter((line) => line.includes(address));
    assert.match(lines.at(-1) ?? '', /add element/, `${address} in:\n${changes}`);
  }
});

test('a failed change is reported to its caller and does not stop the next one', async () => {
  let failing = true;
  const probes = createHostProbes(
    nftHostRules({ ipv6: false, kubeletUid: 0 }, () => {
      if (failing) return Promise.reject(new Error('nft is busy'));
      return Promise.resolve();
    }),
  );
  await assert.rejects(probes.set('web', [ip('10.244.1.4')]), /nft is busy/);
  failing = false;
  await probes.set('web', [ip('10.244.1.4')]);
});

test('pods that join while a change is written share the next one', async () => {
  const applied: string[] = [];
  let goOn = Promise.withResolvers<void>();
  const probes = createHostProbes(
    nftHostRules({ ipv6: false, kubeletUid: 0 }, (text) => {
      applied.push(text);
      return goOn.promise;
    }),
  );
  const address = (number: number) => ip(`10.244.1.${number}`);
  const first = probes.set('web', [address(1)]);
  // The first one is under way.
  await new Promise((resolve) => setImmediate(resolve));
  const others = [
    probes.set('a', [address(2)]),
    probes.set('b', [address(3)]),
    probes.set('c', [address(4)]),
  ];
  // Changed its mind meanwhile; another one takes the address over, which c has first given up.
  others.push(probes.remove('c'), probes.set('b', [address(4)]), probes.remove('web'));
  goOn.resolve();
  await first;
  goOn = Promise.withResolvers();
  goOn.resolve();
  await Promise.all(others);
  const element = (number: number): string =>
    `element inet istio-ambient-nat istio-inpod-probes-v4 { ${address(number)}`;
  assert.deepEqual(applied, [
    `add ${element(1)} comment "web" }\n`,
    `add ${element(1)} }\ndelete ${element(1)} }\n` +
      `add ${element(2)} comment "a" }\nadd ${element(4)} comment "b" }\n`,
  ]);
});
