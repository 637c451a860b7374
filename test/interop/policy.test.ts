// Would a real ztunnel let the same connections through? Random sets of policies, each with connections from several
// addresses and identities, in plaintext and by HBONE. PEER_ZTUNNEL names the program; without it nothing is compared.
// The peer runs alone, for one workload, with its certificate from an authority of ours, in a namespace of this test.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PEER_ZTUNNEL, WITHOUT_PEER } from '../lib/peer-program.ts';
import { runInNetns } from './netns-child.ts';
import type { Attempt } from './random-policies.ts';

const FIRST_SEED = Number(process.env.SEED ?? 1);
const SETS = 80;
const ATTEMPTS_PER_SET = 8;

interface Answer {
  readonly seed: string;
  readonly attempt: Attempt;
  readonly peerAllows: boolean;
  readonly ours: { readonly allowed: boolean; readonly why: string };
}

test('a real ztunnel comes to the same verdicts', { skip: WITHOUT_PEER, timeout: 240_000 }, async (t) => {
  const seeds = Array.from({ length: SETS }, (_unused, index) => String(FIRST_SEED + index));
  const compared = await runInNetns<Answer>(t, 'policy-child.ts', PEER_ZTUNNEL!, seeds);
  assert.equal(compared.length, SETS * ATTEMPTS_PER_SET);
  for (const { seed, attempt, peerAllows, ours } of compared)
    assert.equal(ours.allowed, peerAllows, `set ${seed}, ${JSON.stringify(attempt)}: ours: ${ours.why}`);
  const allowed = compared.filter(({ peerAllows }) => peerAllows).length;
  // Otherwise the sets ask nothing.
  assert.ok(allowed > compared.length / 5 && allowed < (compared.length * 4) / 5, `${allowed} allowed`);
  t.diagnostic(`${compared.length} connections, ${allowed} allowed by both, no difference`);
});
