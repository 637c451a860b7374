// What a client's stream tells those who count. The conversation itself: subscription.test.ts, and with real connections
// test/loopback/xds-server.test.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SpiffeId } from '#model/identity.ts';
import { deltaRequest, encodeDeltaRequest } from '#proto/discovery.ts';
import { silentLogger } from '#telemetry/log.ts';
import { ClientStream } from './client-stream.ts';
import { SharedSource } from './shared-source.ts';
import type { ResourceSource } from './source.ts';

const caller = {
  identity: 'spiffe://cluster.local/ns/istio-system/sa/ztunnel' as SpiffeId,
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
};

test('a push that says nothing under a type does not count for the next one', () => {
  const source: ResourceSource = {
    typeUrl: 'T',
    list: () => [],
    get: (name) => ({ name, version: '1', bytes: Uint8Array.of(1) }),
    onChange: () => () => {},
    carry: ({ name, bytes }) => (name === 'service' ? undefined : bytes),
  };
  let tell: (bytes: Uint8Array) => void = () => {};
  const queued: (number | undefined)[] = [];
  const stream = new ClientStream(
    1,
    caller,
    {
      peer: '',
      read: (_maxBytes, message) => {
        tell = message;
      },
      send: (_parts, taken) => taken(),
      end: () => {},
      reset: () => {},
    },
    {
      sources: [new SharedSource(source)],
      log: silentLogger,
      version: () => 'v',
      controlPlane: '',
      answerDebug: undefined,
      cutOff: () => {},
      observe: { sent: (_type, _resources, _bytes, queuedSeconds) => void queued.push(queuedSeconds) },
    },
    { maxPendingNames: 10, identityCheck: false },
  );
  stream.start();
  tell(encodeDeltaRequest(deltaRequest('T', { node: { id: 'ztunnel', metadata: {} } })));
  const longAgo = { changedAt: -1e9, pushedAt: -1e9 };
  stream.onPush(new Map([['T', new Set(['service'])]]), longAgo);
  const now = { changedAt: performance.now(), pushedAt: performance.now() };
  stream.onPush(new Map([['T', new Set(['workload'])]]), now);
  assert.equal(queued.length, 2);
  const [answer, push] = queued;
  assert.equal(answer, undefined);
  // A million seconds ago, if the first push still counted.
  assert.ok(push !== undefined && push < 1e5, `${push}`);
});
