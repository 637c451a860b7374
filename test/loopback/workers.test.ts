// The owner's side of further threads, with real threads but without pods: what it tells them, what they answer, and what
// becomes of one that fails. Connections are shown in test/netns/threads.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { MeshError } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import { policyOf, workloadOf } from '#model/samples.ts';
import { encodeDeltaResponse } from '#proto/discovery.ts';
import { ADDRESS_TYPE_URL, encodeAddress } from '#proto/workload.ts';
import { parseConfig } from '#ztunnel/config.ts';
import { type Workers, workersOf } from '#ztunnel/workers/group.ts';
import { until } from '../lib/until.ts';

const ENTRY = new URL('../../bin/ztunnel-worker.ts', import.meta.url);
const open: Workers[] = [];
afterEach(() => {
  for (const workers of open.splice(0)) workers.close();
});

async function start(threads: number, entry = ENTRY): Promise<{ workers: Workers; crashes: MeshError[] }> {
  const crashes: MeshError[] = [];
  const config = { ...parseConfig({ NODE_NAME: 'n1', CRL_PATH: '/no/such' }), threads, drainMs: 1000 };
  const workers = await workersOf({
    entry,
    write: () => {},
    onCrash: (error) => crashes.push(error),
    onHung: (error) => crashes.push(error),
  })(config, { secret: async () => {}, demand: async () => 'answered' });
  open.push(workers);
  return { workers, crashes };
}

const delta = (uid: string): Uint8Array =>
  encodeDeltaResponse({
    systemVersionInfo: '',
    typeUrl: ADDRESS_TYPE_URL,
    nonce: 'n',
    removed: [],
    resources: [
      {
        name: uid,
        version: '1',
        typeUrl: ADDRESS_TYPE_URL,
        value: encodeAddress({ kind: 'workload', workload: workloadOf({ name: uid }) }),
      },
    ],
  });

test('every thread is told and asked; the bytes of a delta stay the owner’s', async () => {
  const { workers, crashes } = await start(3);
  assert.equal(workers.count, 2);
  const bytes = delta('web');
  const before = Uint8Array.from(bytes);
  workers.apply({}, bytes);
  workers.apply({ policies: [policyOf({ name: 'p', namespace: 'shop' })] }, undefined);
  workers.secret('spiffe://cluster.local/ns/shop/sa/web' as SpiffeId, undefined);
  await workers.settle();
  assert.deepEqual(bytes, before);
  assert.deepEqual(await workers.connections(), [new Map(), new Map()]);
  assert.equal((await workers.metrics()).length, 2);
  assert.deepEqual((await workers.metrics())[0]!.get('culvert_connections_refused'), new Map([['', 0]]));
  assert.equal(await workers.removePod('never heard of'), 0);
  assert.equal(await workers.revocations(Buffer.alloc(0)), 0);
  assert.deepEqual(await workers.drain(), [{ kind: 'finished' }, { kind: 'finished' }]);
  assert.deepEqual(crashes, []);
});

test('what a thread cannot do ends it; the owner hears why, and nobody waits for an answer', async () => {
  const { workers, crashes } = await start(2);
  workers.apply({}, Uint8Array.of(0xff, 0xff));
  await assert.rejects(workers.settle(), { code: 'WORKER_FAILED', message: /^thread ztunnel-1 has ended: / });
  await until('the crash', () => crashes.length === 1);
  assert.equal(crashes[0]!.code, 'WORKER_FAILED');
  assert.ok(crashes[0]!.cause instanceof Error);
  await assert.rejects(workers.metrics(), { code: 'WORKER_FAILED' });
});

test('a thread that does not come up fails the start', async () => {
  await assert.rejects(start(2, new URL('./no-such-program.ts', import.meta.url)), { code: 'WORKER_FAILED' });
});

test('a thread that hangs is silent for the probe; the others answer', async () => {
  const { workers, crashes } = await start(3, new URL('./hanging-worker.ts', import.meta.url));
  assert.deepEqual(await workers.silent(60_000), []);
  workers.logFilter({ level: 'info', scopes: new Map([['hang ztunnel-2', 'info']]) });
  assert.deepEqual(await workers.silent(2000), ['ztunnel-2']);
  assert.deepEqual(crashes, [], 'for now');
});

test('closed threads are no crash', async () => {
  const { workers, crashes } = await start(2);
  workers.close();
  open.length = 0;
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.deepEqual(crashes, []);
});
