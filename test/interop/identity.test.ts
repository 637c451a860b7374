// Whom does a real ztunnel take a client for, by its certificate? PEER_ZTUNNEL names the program; without it nothing is
// compared.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PEER_ZTUNNEL, WITHOUT_PEER } from '../lib/peer-program.ts';
import { runInNetns } from './netns-child.ts';

interface Answer {
  readonly name: string;
  readonly theirs: string;
  readonly ours: string;
}

/** By name of the case. */
const DIFFERENCES: ReadonlySet<string> = new Set(['an empty namespace', 'an empty service account']);

test('a real ztunnel takes the same clients for the same identities', {
  skip: WITHOUT_PEER,
  timeout: 240_000,
}, async (t) => {
  const answers = await runInNetns<Answer>(t, 'identity-child.ts', PEER_ZTUNNEL!);
  for (const { name, theirs, ours } of answers) t.diagnostic(`${name}: ${theirs} by the peer, ${ours} by us`);
  const differing = answers.filter(({ theirs, ours }) => theirs !== ours);
  assert.deepEqual(new Set(differing.map(({ name }) => name)), DIFFERENCES);
});
