import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { createLogger, silentLogger } from '#telemetry/log.ts';
import type { KubeClient, List, WatchEvent } from './client.ts';
import { CONFIG_MAPS, type ConfigMap } from './objects.ts';
import { startInformer } from './reflector.ts';

type Event = WatchEvent<ConfigMap>;
interface WatchCall {
  readonly resourceVersion?: string | undefined;
  readonly initial: boolean;
  send(...events: Event[]): void;
  end(): void;
  fail(error: unknown): void;
}

/** A client whose watches and lists are answered by the test, call by call. */
class ScriptedClient {
  readonly calls: WatchCall[] = [];
  lists: List<ConfigMap>[] = [];
  listCalls = 0;
  refuseWatchListWith: number | undefined;
  #arrived: (() => void)[] = [];

  readonly kube = {
    list: async () => {
      this.listCalls++;
      const answer = this.lists.shift();
      if (answer === undefined) throw new MeshError('API_UNREACHABLE', 'no list is scripted');
      return answer;
    },
    watch: (
      _resource: unknown,
      options: { resourceVersion?: string; sendInitialEvents?: boolean; signal: AbortSignal },
    ) => this.#watch(options),
  } as unknown as KubeClient;

  async *#watch(options: { resourceVersion?: string; sendInitialEvents?: boolean; signal: AbortSignal }) {
    if (options.sendInitialEvents === true && this.refuseWatchListWith !== undefined)
      throw refusal(this.refuseWatchListWith, 'Invalid');
    const queue: (Event | 'end' | { error: unknown })[] = [];
    let wake = (): void => {};
    const push = (entry: (typeof queue)[number]): void => {
      queue.push(entry);
      wake();
    };
    options.signal.addEventListener('abort', () => push('end'));
    this.calls.push({
      resourceVersion: options.resourceVersion,
      initial: options.sendInitialEvents === true,
      send: (...events) => events.forEach(push),
      end: () => push('end'),
      fail: (error) => push({ error }),
    });
    for (const arrived of this.#arrived.splice(0)) arrived();
    for (;;) {
      const entry = queue.shift();
      if (entry === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      } else if (entry === 'end') return;
      else if ('error' in entry) throw entry.error;
      else yield entry;
    }
  }

  /** The nth watch that was opened, counted from 0. */
  async call(index: number): Promise<WatchCall> {
    while (this.calls.length <= index) await new Promise<void>((resolve) => this.#arrived.push(resolve));
    return this.calls[index] as WatchCall;
  }
}

const refusal = (status: number, reason: string): MeshError =>
  new MeshError('API_STATUS', 'refused', { details: { status, reason } });

const map = (name: string, version: string, uid = `uid-${name}`): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'ns', uid, resourceVersion: version },
});
const added = (object: ConfigMap): Event => ({ type: 'ADDED', object });
const bookmark = (resourceVersion: string, initialEventsEnd = false): Event => ({
  type: 'BOOKMARK',
  resourceVersion,
  initialEventsEnd,
});

/** An informer, what its handlers were told, and a way to wait for it. */
function observed(client: ScriptedClient) {
  const told: string[] = [];
  let wake = (): void => {};
  const tell = (line: string): void => {
    told.push(line);
    wake();
  };
  const informer = startInformer({ client: client.kube, log: silentLogger }, CONFIG_MAPS);
  informer.addHandlers({
    upsert: (object, old) =>
      tell(
        `${old === undefined ? 'new' : 'changed'} ${object.metadata.name}@${object.metadata.resourceVersion}`,
      ),
    remove: (object) => tell(`gone ${object.metadata.name}@${object.metadata.resourceVersion}`),
  });
  const until = async (...expected: string[]): Promise<void> => {
    while (told.length < expected.length)
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    assert.deepEqual(told.splice(0), expected);
  };
  return { informer, told, until };
}

test('WatchList: handlers see the list only when it is whole, then live events; a clean end resumes', async () => {
  const client = new ScriptedClient();
  const { informer, told, until } = observed(client);
  const first = await client.call(0);
  assert.equal(first.initial, true);
  first.send(added(map('a', '1')), added(map('b', '2')));
  await new Promise(setImmediate);
  assert.deepEqual(told, []);
  assert.equal(informer.hasSynced, false);
  first.send(bookmark('5', true));
  await informer.synced;
  await until('new a@1', 'new b@2');
  assert.equal(informer.get('ns/a')?.metadata.resourceVersion, '1');

  first.send(
    { type: 'MODIFIED', object: map('a', '6') },
    { type: 'DELETED', object: map('b', '7') },
    bookmark('9'),
  );
  await until('changed a@6', 'gone b@7');
  first.end();
  const second = await client.call(1);
  assert.equal(second.initial, false);
  assert.equal(second.resourceVersion, '9');
  informer.close();
});

test('managedFields are not kept: they can be half of an object, and nobody asks', async () => {
  const client = new ScriptedClient();
  const { informer, until } = observed(client);
  const owned = map('a', '1');
  Object.assign(owned.metadata, { managedFields: [{ manager: 'm', fieldsV1: {} }] });
  (await client.call(0)).send(added(owned), bookmark('5', true));
  await until('new a@1');
  assert.deepEqual(informer.get('ns/a'), map('a', '1'));
  informer.close();
});

test('handlers that come later are given everything held; a failing handler stops nobody', async () => {
  const client = new ScriptedClient();
  const lines: string[] = [];
  const log = createLogger('test', { format: 'plain', level: 'error', write: (line) => lines.push(line) });
  const informer = startInformer({ client: client.kube, log }, CONFIG_MAPS);
  informer.addHandlers({
    upsert: () => {
      throw new Error('broken handler');
    },
    remove: () => {},
  });
  const seen: string[] = [];
  const call = await client.call(0);
  call.send(added(map('a', '1')), bookmark('1', true));
  await informer.synced;
  informer.addHandlers({ upsert: (object) => seen.push(object.metadata.name), remove: () => {} });
  assert.deepEqual(seen, ['a']);
  assert.match(lines.join(''), /broken handler/);
  informer.close();
});

for (const status of [400, 422])
  test(`a server that answers ${status} to WatchList is listed and watched from the list's version`, async () => {
    const client = new ScriptedClient();
    client.refuseWatchListWith = status;
    client.lists.push({ items: [map('a', '3')], resourceVersion: '8' });
    const { informer, until } = observed(client);
    await until('new a@3');
    assert.equal((await client.call(0)).resourceVersion, '8');
    informer.close();
  });

test('410 inside the stream: the new list is compared with what is held', async () => {
  const client = new ScriptedClient();
  const { informer, until } = observed(client);
  const first = await client.call(0);
  first.send(
    added(map('a', '1')),
    added(map('b', '2')),
    added(map('c', '3', 'first-life')),
    bookmark('3', true),
  );
  await until('new a@1', 'new b@2', 'new c@3');
  first.fail(refusal(410, 'Expired'));
  const second = await client.call(1);
  assert.equal(second.initial, true);
  second.send(
    added(map('b', '7')),
    added(map('c', '8', 'second-life')),
    added(map('d', '9')),
    bookmark('9', true),
  );
  await until('gone a@1', 'changed b@7', 'gone c@3', 'new c@8', 'new d@9');
  assert.deepEqual([...informer.all()].map((object) => object.metadata.name).sort(), ['b', 'c', 'd']);
  informer.close();
});

test('a broken connection resumes from the last version and repeats nothing', async () => {
  const client = new ScriptedClient();
  const { informer, until } = observed(client);
  const first = await client.call(0);
  first.send(added(map('a', '1')), bookmark('1', true), added(map('b', '4')));
  await until('new a@1', 'new b@4');
  first.fail(new MeshError('API_UNREACHABLE', 'connection reset'));
  const second = await client.call(1);
  assert.equal(second.resourceVersion, '4');
  second.send(added(map('b', '4')), added(map('c', '5')));
  await until('new c@5');
  informer.close();
});

test('a connection that breaks before the list is whole starts over', async () => {
  const client = new ScriptedClient();
  const { informer, until } = observed(client);
  const first = await client.call(0);
  first.send(added(map('gone-meanwhile', '1')));
  first.fail(new MeshError('API_UNREACHABLE', 'connection reset'));
  const second = await client.call(1);
  assert.equal(second.initial, true);
  second.send(added(map('a', '2')), bookmark('2', true));
  await until('new a@2');
  informer.close();
});

test('nobody is told anything after close', async () => {
  const client = new ScriptedClient();
  const { informer, told } = observed(client);
  const call = await client.call(0);
  call.send(added(map('a', '1')), bookmark('1', true));
  await informer.synced;
  told.length = 0;
  call.send(added(map('b', '2')));
  informer.close();
  await new Promise(setImmediate);
  assert.deepEqual(told, []);
});
