// Our client with our server, through the table that every pair of implementations must pass.

import { describe, it } from 'node:test';
import { HBONE_CASES } from './hbone-cases.ts';
import { scoped, startPair } from './hbone-peers.ts';

const PAIRS = { 'node:http2 × node:http2': startPair };

for (const [pair, start] of Object.entries(PAIRS)) {
  describe(`HBONE, ${pair}`, () => {
    for (const [name, run] of Object.entries(HBONE_CASES)) {
      it(
        name,
        scoped((scope) => run(scope, start)),
      );
    }
  });
}
