// The client against a scripted stream: requests, answers and delays of ztunnel.md §3.2–3.5.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Scope } from '#base/scope.ts';
import { policyOf, workloadOf } from '#model/samples.ts';
import { createStore } from '#model/store.ts';
import type { WorkloadUid } from '#model/workload.ts';
import { AUTHORIZATION_TYPE_URL, encodeAuthorization } from '#proto/authorization.ts';
import {
  type DeltaRequest,
  decodeDeltaRequest,
  decodeDeltaResponse,
  encodeDeltaResponse,
} from '#proto/discovery.ts';
import { Sharing } from '#proto/sharing.ts';
import { ADDRESS_TYPE_URL, encodeAddress } from '#proto/workload.ts';
import { silentLogger } from '#telemetry/log.ts';
import { applyDelta } from './apply.ts';
import { startXdsClient, ztunnelNode } from './client.ts';
import { nextDelay } from './reconnect.ts';
import type { StreamEnd, StreamHandlers } from './transport.ts';

function harness(
  options: { onDemand?: boolean; demandLimitMs?: number; settle?: () => Promise<unknown> } = {},
) {
  const scope = new Scope('test');
  const mirrored: (Uint8Array | undefined)[] = [];
  const store = createStore({ localNode: 'n1', onApply: (_, encoded) => mirrored.push(encoded) });
  const streams: { handlers: StreamHandlers; sent: DeltaRequest[]; closed: boolean }[] = [];
  const terminations: string[] = [];
  const counted: [typeUrl: string, bytes: number][] = [];
  const client = startXdsClient(
    {
      scope,
      store,
      log: silentLogger,
      settle: options.settle,
      observe: {
        terminated: (reason) => terminations.push(reason),
        message: (typeUrl, bytes) => counted.push([typeUrl, bytes]),
      },
      open: (handlers) => {
        const stream = { handlers, sent: [] as DeltaRequest[], closed: false };
        streams.push(stream);
        return {
          send: (bytes) => stream.sent.push(decodeDeltaRequest(bytes)),
          close: () => {
            stream.closed = true;
          },
        };
      },
    },
    {
      node: ztunnelNode({
        instanceIp: '10.0.0.1',
        podName: 'zt',
        podNamespace: 'istio-system',
        nodeName: 'n1',
        clusterId: 'Kubernetes',
        istioVersion: '1.2.3',
      }),
      ...options,
    },
  );
  const respond = (
    stream: number,
    typeUrl: string,
    nonce: string,
    resources: Record<string, Uint8Array> = {},
    removed: string[] = [],
    aliases: string[] = [],
  ): void =>
    streams[stream]!.handlers.message(
      encodeDeltaResponse({
        systemVersionInfo: '',
        typeUrl,
        nonce,
        removed,
        resources: Object.entries(resources).map(([name, value]) => ({
          name,
          version: `${name}@1`,
          typeUrl,
          value,
          aliases,
        })),
      }),
    );
  return { scope, store, streams, client, respond, terminations, counted, mirrored };
}

const reconnected = async (streams: readonly unknown[], count: number): Promise<void> => {
  const deadline = performance.now() + 5000;
  while (streams.length < count) {
    assert.ok(performance.now() < deadline, 'no reconnect');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
};

test('one wildcard request per type at once, addresses first, each with the node', () => {
  const { scope, streams } = harness();
  const sent = streams[0]!.sent;
  assert.deepEqual(
    sent.map(({ typeUrl }) => typeUrl),
    [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL],
  );
  for (const request of sent) {
    assert.equal(request.node?.id, 'ztunnel~10.0.0.1~zt.istio-system~istio-system.svc.cluster.local');
    assert.deepEqual(request.node.metadata, {
      NAME: 'zt',
      NAMESPACE: 'istio-system',
      INSTANCE_IPS: '10.0.0.1',
      NODE_NAME: 'n1',
      CLUSTER_ID: 'Kubernetes',
      ISTIO_VERSION: '1.2.3',
    });
    assert.deepEqual([request.subscribe, request.unsubscribe], [[], []]);
    assert.equal(request.initialResourceVersions.size, 0);
  }
  scope.close();
  assert.equal(streams[0]!.closed, true);
});

test('istio_xds_message_bytes counted envelopes, so that a resume that sent nothing again seemed to have', () => {
  const { scope, counted, respond } = harness();
  respond(0, ADDRESS_TYPE_URL, 'a1', { w1: new Uint8Array(7), w2: new Uint8Array(5) });
  respond(0, ADDRESS_TYPE_URL, 'a2', {}, ['w1']);
  respond(0, AUTHORIZATION_TYPE_URL, 'p1');
  assert.deepEqual(counted, [
    [ADDRESS_TYPE_URL, 12],
    [ADDRESS_TYPE_URL, 0],
    [AUTHORIZATION_TYPE_URL, 0],
  ]);
  scope.close();
});

test('ready after an accepted response of every type; a refused one does not count', async () => {
  const { scope, streams, client, respond } = harness();
  respond(0, AUTHORIZATION_TYPE_URL, 'p1');
  respond(0, ADDRESS_TYPE_URL, 'a1', { bad: Uint8Array.of(0xff) });
  assert.equal(client.ready, false);
  const [ack, nack] = streams[0]!.sent.slice(2);
  assert.deepEqual([ack?.responseNonce, ack?.error, ack?.node], ['p1', undefined, undefined]);
  assert.equal(nack?.responseNonce, 'a1');
  assert.match(nack?.error?.message ?? '', /^bad: /);
  assert.equal(client.status().types[0]?.rejected, nack?.error?.message);
  respond(0, ADDRESS_TYPE_URL, 'a2');
  await client.whenReady();
  assert.equal(client.ready, true);
  assert.equal(client.status().types[0]?.rejected, undefined);
  scope.close();
});

test('a response is acknowledged when other threads have applied it, too, from the same bytes', async () => {
  const waiting: (() => void)[] = [];
  const settle = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));
  const { scope, store, streams, client, respond, mirrored } = harness({ settle });
  const { sent } = streams[0]!;
  const web = workloadOf({ uid: 'web' as WorkloadUid, name: 'web' });
  respond(0, ADDRESS_TYPE_URL, 'a1', { web: encodeAddress({ kind: 'workload', workload: web }) });
  respond(0, AUTHORIZATION_TYPE_URL, 'p1');
  assert.equal(store.workload(web.uid)?.name, 'web');
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([sent.length, client.ready], [2, false]);
  for (const resolve of waiting) resolve();
  await client.whenReady();
  assert.deepEqual(
    sent.slice(2).map(({ responseNonce }) => responseNonce),
    ['a1', 'p1'],
  );
  // Another store becomes the same from what came over the wire.
  const copy = createStore({ localNode: 'n1' });
  for (const bytes of mirrored)
    applyDelta({ store: copy, sharing: new Sharing(), log: silentLogger }, decodeDeltaResponse(bytes!));
  assert.deepEqual([...copy.workloads()], [...store.workloads()]);

  // A stream that ends meanwhile is not spoken to; the next one says what is held.
  respond(0, ADDRESS_TYPE_URL, 'a2', {}, ['web']);
  streams[0]!.handlers.end({ kind: 'clean' });
  waiting.at(-1)!();
  await reconnected(streams, 2);
  assert.equal(sent.length, 4);
  assert.deepEqual([...streams[1]!.sent[0]!.initialResourceVersions], []);
  scope.close();
});

test('an unknown type is accepted and ignored', () => {
  const { scope, streams, respond } = harness();
  respond(0, 'type.googleapis.com/other', 'x', { a: Uint8Array.of(1) });
  const answer = streams[0]!.sent.at(-1);
  assert.deepEqual(
    [answer?.typeUrl, answer?.responseNonce, answer?.error],
    ['type.googleapis.com/other', 'x', undefined],
  );
  scope.close();
});

test('a reconnect tells what is held, without what was refused or removed', async () => {
  const { scope, store, streams, respond, terminations } = harness();
  const workload = (name: string): Uint8Array =>
    encodeAddress({ kind: 'workload', workload: workloadOf({ uid: name as WorkloadUid }) });
  respond(0, ADDRESS_TYPE_URL, '1', { a: workload('a'), b: workload('b'), bad: Uint8Array.of(0xff) });
  respond(0, ADDRESS_TYPE_URL, '2', {}, ['b']);
  respond(0, AUTHORIZATION_TYPE_URL, '3', {
    'x/p': encodeAuthorization(policyOf({ namespace: 'x', name: 'p' })),
  });
  streams[0]!.handlers.end({ kind: 'clean' });
  await reconnected(streams, 2);
  const [addresses, policies] = streams[1]!.sent;
  assert.deepEqual([...addresses!.initialResourceVersions], [['a', 'a@1']]);
  assert.deepEqual([...policies!.initialResourceVersions], [['x/p', 'x/p@1']]);
  assert.ok(store.workload('a' as WorkloadUid) !== undefined);
  assert.deepEqual(terminations, ['Complete']);
  // The old stream has no say any more.
  respond(0, ADDRESS_TYPE_URL, '4', {}, ['a']);
  assert.ok(store.workload('a' as WorkloadUid) !== undefined);
  scope.close();
});

test('a message that is no response ends the stream, and a new one follows', async () => {
  const { scope, streams, terminations } = harness();
  streams[0]!.handlers.message(Uint8Array.of(0xff, 0xff));
  assert.equal(streams[0]!.closed, true);
  await reconnected(streams, 2);
  assert.deepEqual(terminations, ['Error']);
  scope.close();
});

const workloadBytes = (uid: string): Uint8Array =>
  encodeAddress({ kind: 'workload', workload: workloadOf({ uid: uid as WorkloadUid }) });

test('on demand: nothing is subscribed to but policies, and readiness waits for those alone', async () => {
  const { scope, streams, client, respond } = harness({ onDemand: true });
  const [addresses, policies] = streams[0]!.sent;
  assert.deepEqual([addresses!.subscribe, addresses!.unsubscribe], [['*'], ['*']]);
  assert.deepEqual([policies!.subscribe, policies!.unsubscribe], [[], []]);
  respond(0, AUTHORIZATION_TYPE_URL, 'p1');
  await client.whenReady();
  scope.close();
});

test('a demand is one request, answered by name, by alias or by removal, after the store has changed', async () => {
  const { scope, store, streams, client, respond } = harness({ onDemand: true });
  const waits = [client.demand('net/10.0.0.1'), client.demand('net/10.0.0.1'), client.demand('net/10.0.0.2')];
  const known = client.demand('uid').then((outcome) => [outcome, store.workload('uid' as WorkloadUid)?.uid]);
  const asked = streams[0]!.sent.slice(2);
  assert.deepEqual(
    asked.map(({ typeUrl, subscribe, node }) => [typeUrl, subscribe, node]),
    ['net/10.0.0.1', 'net/10.0.0.2', 'uid'].map((name) => [ADDRESS_TYPE_URL, [name], undefined]),
  );
  respond(0, ADDRESS_TYPE_URL, '1', { uid: workloadBytes('uid') }, ['net/10.0.0.2'], ['net/10.0.0.1']);
  assert.deepEqual(await Promise.all(waits), ['answered', 'answered', 'answered']);
  assert.deepEqual(await known, ['answered', 'uid']);
  scope.close();
});

test('a demanded resource that cannot be read is not taken for nothing', async () => {
  const { scope, client, respond } = harness({ onDemand: true });
  const wait = client.demand('net/10.0.0.1');
  respond(0, ADDRESS_TYPE_URL, '1', { bad: Uint8Array.of(0xff) }, [], ['net/10.0.0.1']);
  assert.equal(await wait, 'refused');
  scope.close();
});

test('a demand without an answer ends at its limit', async () => {
  const { scope, client } = harness({ onDemand: true, demandLimitMs: 1 });
  assert.equal(await client.demand('net/10.0.0.1'), 'silent');
  scope.close();
});

test('a demand survives a reconnect; what was demanded earlier is resumed with its version', async () => {
  const { scope, streams, client, respond } = harness({ onDemand: true, demandLimitMs: 60_000 });
  const first = client.demand('a');
  respond(0, ADDRESS_TYPE_URL, '1', { a: workloadBytes('a') });
  await first;
  const lost = client.demand('b');
  streams[0]!.handlers.end({ kind: 'clean' });
  const between = client.demand('c');
  await reconnected(streams, 2);
  const again = streams[1]!.sent[0]!;
  assert.deepEqual([again.subscribe, again.unsubscribe], [['*'], ['*']]);
  assert.deepEqual([...again.initialResourceVersions].sort(), [
    ['a', 'a@1'],
    ['b', ''],
    ['c', ''],
  ]);
  respond(1, ADDRESS_TYPE_URL, '2', { b: workloadBytes('b') }, ['c']);
  assert.deepEqual(await Promise.all([lost, between]), ['answered', 'answered']);
  scope.close();
});

test('with everything subscribed to, a demand is answered at once', async () => {
  const { scope, streams, client } = harness();
  assert.equal(await client.demand('a'), 'answered');
  assert.equal(streams[0]!.sent.length, 2);
  scope.close();
});

// end, back-off before → sleep, back-off after
const status = (code: number, message = ''): StreamEnd => ({ kind: 'status', code, message });
const DELAYS: readonly [string, StreamEnd, number, number, number][] = [
  ['first failure to connect', { kind: 'unreachable', message: '' }, 10, 20, 20],
  ['second failure to connect', { kind: 'unreachable', message: '' }, 20, 40, 40],
  ['no more than 15 s', { kind: 'unreachable', message: '' }, 12_000, 15_000, 15_000],
  ['Unauthenticated', status(16), 10, 20, 20],
  ['PermissionDenied', status(7), 40, 80, 80],
  ['Unknown', status(2), 80, 10, 10],
  ['Cancelled', status(1), 80, 10, 10],
  ['DeadlineExceeded', status(4), 80, 10, 10],
  ['Unavailable', status(14, 'no healthy endpoints'), 80, 160, 160],
  ['Unavailable: closing', status(14, 'transport is closing'), 80, 10, 10],
  ['Unavailable: goaway', status(14, 'closing: received prior goaway: code NO_ERROR'), 80, 10, 10],
  ['clean end', { kind: 'clean' }, 80, 10, 10],
];
for (const [what, end, before, sleepMs, backoffMs] of DELAYS)
  test(`${what} after a back-off of ${before} ms waits ${sleepMs} ms`, () =>
    assert.deepEqual(nextDelay(end, before), { sleepMs, backoffMs }));
