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
