// Whom does a real ztunnel take a client for, by its certificate? PEER_ZTUNNEL names the program; without it nothing is
// compared.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runInNetns } from './netns-child.ts';

const peer = process.env.PEER_ZTUNNEL;

interface Answer {
  readonly name: string;
  readonly theirs: string;
  readonly ours: string;
}

/** By name of the case. */
const DIFFERENCES: ReadonlySet<string> = new Set(['an empty namespace', 'an empty service account']);
const skip = peer === undefined ? 'not run: PEER_ZTUNNEL names no ztunnel' : false;

test('a real ztunnel takes the same clients for the same identities', {
  skip,
  timeout: 240_000,
}, async (t) => {
  const answers = await runInNetns<Answer>(t, 'identity-child.ts', peer!);
  for (const { name, theirs, ours } of answers) t.diagnostic(`${name}: ${theirs} by the peer, ${ours} by us`);
  const differing = answers.filter(({ theirs, ours }) => theirs !== ours);
  assert.deepEqual(new Set(differing.map(({ name }) => name)), DIFFERENCES);
});
