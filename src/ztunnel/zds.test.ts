import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { decodeAck, decodeHello, encodeWorkloadRequest, type ZdsRequest } from '#proto/zds.ts';
import { silentLogger } from '#telemetry/log.ts';
import { until } from '../../test/lib/until.ts';
import { createReadiness, type Readiness } from './readiness.ts';
import { type PacketConnection, startZdsClient, type ZdsClient } from './zds.ts';

/** The agent's end of one connection. */
class FakeAgent implements PacketConnection {
  readonly acks: string[] = [];
  greeted = false;
  isClosed = false;
  #deliver: (message: Uint8Array, fds: number[]) => void = () => {};
  #close: (error?: unknown) => void = () => {};

  send(message: Uint8Array): Promise<void> {
    if (!this.greeted) {
      decodeHello(message);
      this.greeted = true;
    } else this.acks.push(decodeAck(message).error ?? 'ok');
    return Promise.resolve();
  }
  onMessage(handler: (message: Uint8Array, fds: number[]) => void): void {
    this.#deliver = handler;
  }
  onClose(handler: (error?: unknown) => void): void {
    this.#close = handler;
  }
  close(): void {
    this.isClosed = true;
  }
  /** Says something and gives the answer. */
  async says(request: ZdsRequest | Uint8Array, ...fds: number[]): Promise<string | undefined> {
    this.#deliver(request instanceof Uint8Array ? request : encodeWorkloadRequest(request), fds);
    await turn();
    return this.acks.at(-1);
  }
  hangsUp(): void {
    this.#close();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Rig {
  readonly agents: FakeAgent[];
  readonly running: Map<string, string>;
  readonly closedFds: number[];
  readonly fatal: MeshError[];
  readonly readiness: Readiness;
  readonly client: ZdsClient;
  readonly scope: Scope;
  refuse: Set<string>;
}

async function rig(settle?: () => Promise<unknown>): Promise<Rig> {
  const agents: FakeAgent[] = [];
  const running = new Map<string, string>();
  const closedFds: number[] = [];
  const fatal: MeshError[] = [];
  const readiness = createReadiness([]);
  const scope = new Scope('test');
  const refuse = new Set<string>();
  const client = startZdsClient(
    {
      connect: () => {
        const agent = new FakeAgent();
        agents.push(agent);
        return Promise.resolve(agent);
      },
      netns: (fd) => ({ id: String(fd), fd, close: () => closedFds.push(fd) }),
      discard: (fd) => closedFds.push(fd),
      pods: {
        add: (uid, info, netns) => {
          if (refuse.has(uid)) throw new MeshError('PORT_IN_USE', 'port 15008 is taken');
          running.set(uid, `${info.name}@${netns.id}`);
        },
        remove: (uid) => running.delete(uid),
        retain: (uids) => {
          for (const uid of running.keys()) if (!uids.has(uid)) running.delete(uid);
        },
      },
      settle,
      readiness,
      log: silentLogger,
      scope,
      random: () => 0.5,
      onFatal: (error) => fatal.push(error),
      onPending: () => {},
    },
    { path: '/run/zds', podRetryMs: 1 },
  );
  await turn();
  return { agents, running, closedFds, fatal, readiness, client, scope, refuse };
}

const add = (uid: string): ZdsRequest => ({
  kind: 'add',
  uid,
  info: { name: uid, namespace: 'shop', serviceAccount: 'sa' },
});
const SNAPSHOT: ZdsRequest = { kind: 'snapshot-sent' };
const PENDING = ['workload proxy manager'];

test('hello first; adds are acknowledged; ready after the snapshot', async () => {
  const { agents, running, readiness, scope } = await rig();
  const [agent] = agents;
  assert.ok(agent?.greeted);
  assert.equal(await agent.says(add('a'), 7), 'ok');
  assert.deepEqual([...running], [['a', 'a@7']]);
  assert.deepEqual(readiness.pending(), PENDING);
  assert.equal(await agent.says(SNAPSHOT), 'ok');
  assert.deepEqual(readiness.pending(), []);
  assert.equal(await agent.says({ kind: 'del', uid: 'a' }), 'ok');
  assert.equal(await agent.says({ kind: 'del', uid: 'never heard of' }), 'ok');
  assert.equal(running.size, 0);
  scope.close();
});

test('with several threads the agent is answered when all have done it, in order', async () => {
  const waiting: PromiseWithResolvers<void>[] = [];
  const { agents, scope } = await rig(() => {
    const told = Promise.withResolvers<void>();
    waiting.push(told);
    return told.promise;
  });
  const [agent] = agents;
  assert.equal(await agent!.says(add('a'), 7), undefined);
  assert.equal(await agent!.says(add('b'), 8), undefined);
  assert.equal(waiting.length, 2);
  waiting[0]!.resolve();
  await turn();
  assert.deepEqual(agent!.acks, ['ok']);
  waiting[1]!.resolve();
  await turn();
  assert.deepEqual(agent!.acks, ['ok', 'ok']);
  // A thread that has failed ends the process; until then nothing is confirmed.
  await agent!.says({ kind: 'del', uid: 'a' });
  waiting[2]!.reject(new MeshError('WORKER_FAILED', 'thread ztunnel-1 has ended'));
  await until('another connection', () => agents.length === 2);
  assert.deepEqual(agent!.acks, ['ok', 'ok']);
  scope.close();
});

test('pods outlive the connection; the next snapshot reaps what it does not name', async () => {
  const { agents, running, readiness, scope } = await rig();
  await agents[0]!.says(add('added-again'), 1);
  await agents[0]!.says(add('kept'), 2);
  await agents[0]!.says(add('deleted-meanwhile'), 3);
  await agents[0]!.says(add('named-then-deleted'), 4);
  await agents[0]!.says(SNAPSHOT);
  agents[0]!.hangsUp();
  await until('another greeting', () => agents.length === 2 && agents[1]!.greeted);
  assert.equal(running.size, 4);
  assert.deepEqual(readiness.pending(), PENDING);
  const second = agents[1]!;
  await second.says(add('added-again'), 5);
  await second.says({ kind: 'keep', uid: 'kept' });
  await second.says({ kind: 'keep', uid: 'named-then-deleted' });
  await second.says({ kind: 'del', uid: 'named-then-deleted' });
  assert.equal(running.size, 4);
  await second.says(SNAPSHOT);
  assert.deepEqual([...running.keys()], ['added-again', 'kept']);
  assert.deepEqual(readiness.pending(), []);
  scope.close();
});

test('a pod that cannot be bound is refused with a text, pending, and tried again', async () => {
  const { agents, running, readiness, client, scope, refuse, closedFds } = await rig();
  refuse.add('a');
  assert.equal(await agents[0]!.says(add('a'), 7), 'pod shop/a: port 15008 is taken');
  await agents[0]!.says(SNAPSHOT);
  assert.deepEqual([...client.pending().keys()], ['a']);
  assert.deepEqual(readiness.pending(), PENDING);
  refuse.clear();
  await until('the pod runs', () => running.has('a'));
  assert.deepEqual([client.pending().size, readiness.pending()], [0, []]);
  assert.deepEqual(closedFds, []);
  scope.close();
});

test('a pending pod that is deleted gives its descriptor back', async () => {
  const { agents, client, scope, refuse, closedFds } = await rig();
  refuse.add('a');
  await agents[0]!.says(add('a'), 7);
  await agents[0]!.says({ kind: 'del', uid: 'a' });
  assert.deepEqual([client.pending().size, closedFds], [0, [7]]);
  scope.close();
});

test('a lost connection gives pending descriptors back and starts over', async () => {
  const { agents, client, scope, refuse, closedFds } = await rig();
  refuse.add('a');
  await agents[0]!.says(add('a'), 7);
  agents[0]!.hangsUp();
  await until('another connection', () => agents.length === 2);
  assert.deepEqual([client.pending().size, closedFds], [0, [7]]);
  scope.close();
});

for (const [name, before, request, fds, text] of [
  ['keep after the snapshot', [SNAPSHOT], { kind: 'keep', uid: 'x' }, [], 'KeepWorkload after SnapshotSent'],
  ['a second snapshot', [SNAPSHOT], SNAPSHOT, [], 'a second SnapshotSent on one connection'],
  [
    'add without info',
    [],
    { kind: 'add', uid: 'x', info: undefined },
    [9],
    'AddWorkload x without workload_info',
  ],
] as const satisfies readonly (readonly [
  string,
  readonly ZdsRequest[],
  ZdsRequest,
  readonly number[],
  string,
])[])
  test(`${name}: refused, and the process is to end`, async () => {
    const { agents, fatal, scope, closedFds } = await rig();
    for (const earlier of before) await agents[0]!.says(earlier);
    assert.equal(await agents[0]!.says(request, ...fds), text);
    assert.deepEqual(
      fatal.map((error) => [error.code, error.message]),
      [['ZDS_PROTOCOL', text]],
    );
    assert.deepEqual(closedFds, fds);
    scope.close();
  });

for (const [name, request, fds] of [
  ['an add without a descriptor', add('a'), []],
  ['an add with two descriptors', add('a'), [1, 2]],
  ['a descriptor on another message', { kind: 'del', uid: 'a' }, [3]],
  ['garbage', Uint8Array.from([255, 255, 255]), [4]],
  ['an empty payload', new Uint8Array(0), []],
] as const satisfies readonly (readonly [string, ZdsRequest | Uint8Array, readonly number[]])[])
  test(`${name}: refused, descriptors closed, a new connection`, async () => {
    const { agents, fatal, running, scope, closedFds } = await rig();
    assert.notEqual(await agents[0]!.says(request, ...fds), 'ok');
    await until('another connection', () => agents.length === 2);
    assert.ok(agents[0]!.isClosed);
    assert.deepEqual([fatal.length, running.size, closedFds], [0, 0, fds]);
    scope.close();
  });

test('every message gets exactly one answer, whatever its order and content', async () => {
  const uid = fc.constantFrom('a', 'b', 'c');
  const message = fc.oneof(
    uid.map((one) => [add(one), true] as const),
    uid.map((one) => [{ kind: 'del', uid: one } as ZdsRequest, false] as const),
    fc.constant([SNAPSHOT, false] as const),
    uid.map((one) => [{ kind: 'keep', uid: one } as ZdsRequest, false] as const),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(message, { maxLength: 20 }), async (messages) => {
      const { agents, scope } = await rig();
      for (const [index, [request, hasFd]] of messages.entries())
        await agents[0]!.says(request, ...(hasFd ? [index + 10] : []));
      assert.equal(agents[0]!.acks.length, messages.length);
      scope.close();
    }),
    { numRuns: 30 },
  );
});

test('stop reads nothing more', async () => {
  const { agents, running, client } = await rig();
  client.stop();
  assert.ok(agents[0]!.isClosed);
  await agents[0]!.says(add('late'), 7);
  assert.equal(running.size, 0);
});
