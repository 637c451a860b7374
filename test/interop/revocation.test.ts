// Which clients would a real ztunnel still let in, with which file of revocation lists? PEER_ZTUNNEL names the program;
// without it nothing is compared. Where we differ on purpose stands here and in docs/DIFFERENCES.md.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PEER_ZTUNNEL, WITHOUT_PEER } from '../lib/peer-program.ts';
import { runInNetns } from './netns-child.ts';

interface Answer {
  readonly name: string;
  readonly peerAdmits: boolean;
  readonly weAdmit: boolean;
}

/** By name of the case. */
const DIFFERENCES: ReadonlySet<string> = new Set([
  'a list of another root with the same name, by its key id',
  'a list of version 1',
]);

test('a real ztunnel refuses and cuts the same revoked peers', {
  skip: WITHOUT_PEER,
  timeout: 240_000,
}, async (t) => {
  const answers = await runInNetns<Answer>(t, 'revocation-child.ts', PEER_ZTUNNEL!);
  const word = (admits: boolean): string => (admits ? 'admitted' : 'refused');
  for (const { name, peerAdmits, weAdmit } of answers)
    t.diagnostic(`${name}: ${word(peerAdmits)} by the peer, ${word(weAdmit)} by us`);
  const differing = answers.filter(({ peerAdmits, weAdmit }) => peerAdmits !== weAdmit);
  assert.deepEqual(new Set(differing.map(({ name }) => name)), DIFFERENCES);
});
