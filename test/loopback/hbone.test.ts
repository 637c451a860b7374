// Every pairing of our codec and the oracle on node:http2, through the table that all of them must pass.

import { describe, it } from 'node:test';
import { HBONE_CASES, type StartPair } from './hbone-cases.ts';
import { NODE_HTTP2, OURS, scoped, startPair } from './hbone-peers.ts';

const PAIRS: Readonly<Record<string, StartPair>> = {
  'ours × ours': (scope, onRequest) => startPair(scope, onRequest),
  'ours × node:http2': (scope, onRequest) => startPair(scope, onRequest, { ends: [OURS, NODE_HTTP2] }),
  'node:http2 × ours': (scope, onRequest) => startPair(scope, onRequest, { ends: [NODE_HTTP2, OURS] }),
  'node:http2 × node:http2': (scope, onRequest) =>
    startPair(scope, onRequest, { ends: [NODE_HTTP2, NODE_HTTP2] }),
};

for (const [pair, start] of Object.entries(PAIRS)) {
  describe(`HBONE, client × server: ${pair}`, () => {
    for (const [name, run] of Object.entries(HBONE_CASES)) {
      it(
        name,
        scoped((scope) => run(scope, start)),
      );
    }
  });
}
