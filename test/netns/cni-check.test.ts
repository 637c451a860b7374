// `culvert cni check` tries the redirection for real: on a machine that can, and with rules that do not do what they should.

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { before, test } from 'node:test';
import { tryRedirection } from '#cni/check/trial.ts';
import { createIptablesPodRules } from '#cni/rules/iptables-pod-rules.ts';
import { chooseIptables } from '#cni/rules/iptables-tool.ts';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import type { PodRules } from '#cni/rules/pod-rules.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { until } from '../lib/until.ts';

before(() => warmThreadPool());

const levels = async (rules: PodRules): Promise<string[]> =>
  (await tryRedirection({ name: 'x', rules, ipv6: true })).map(({ id, level }) => `${level} ${id}`);
const ALL = ['rules', 'redirect', 'source-address', 'older-connections', 'close-older', 'removal'];
const descriptors = (): number => readdirSync('/proc/self/fd').length;

test('a node that can: every property holds, with each tool, and nothing is left', async () => {
  await levels(nftPodRules);
  const open = descriptors();
  assert.deepEqual(
    await levels(nftPodRules),
    ALL.map((id) => `ok ${id}`),
  );
  const tool = await chooseIptables({ forced: 'nft', runDir: tmpdir() });
  assert.deepEqual(
    await levels(createIptablesPodRules(tool)),
    ALL.map((id) => `ok ${id}`),
  );
  // Sockets close a moment after they are told to.
  await until(`no more than ${open} descriptors`, () => descriptors() <= open);
});

test('a node that cannot: the first thing that fails says why', async () => {
  const refused = await tryRedirection({
    name: 'nftables',
    rules: { ...nftPodRules, apply: () => Promise.reject(new Error('Operation not supported')) },
    ipv6: false,
  });
  assert.deepEqual(
    refused.map(({ id, level }) => `${level} ${id}`),
    ['broken rules'],
  );
  assert.match(refused[0]?.what ?? '', /nftables: Operation not supported/);

  // Rules that are accepted and redirect nothing.
  const idle = await levels({ ...nftPodRules, apply: async () => {} });
  assert.ok(idle.includes('broken redirect'), idle.join(', '));
});
