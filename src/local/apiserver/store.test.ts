import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ApiObject } from './object.ts';
import { type Change, resourceKey, Store } from './store.ts';

const MAPS = resourceKey('', 'configmaps');
const PODS = resourceKey('', 'pods');

const object = (name: string, value = '', namespace = 'ns'): ApiObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace },
  data: { value },
});

const inFolder = async (run: (path: string) => void | Promise<void>): Promise<void> => {
  const folder = mkdtempSync(join(tmpdir(), 'culvert-store-'));
  try {
    await run(join(folder, 'cluster.db'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

test('one counter for all kinds; a delete takes a version of its own', () => {
  const store = new Store({ path: ':memory:' });
  const first = store.put(MAPS, object('a'));
  const second = store.put(PODS, object('p'));
  const gone = store.remove(MAPS, 'ns', 'a');
  assert.equal(second.rev, first.rev + 1);
  assert.equal(gone?.rev, second.rev + 1);
  assert.equal(gone?.object.metadata.resourceVersion, String(gone?.rev));
  assert.equal(store.get(MAPS, 'ns', 'a'), undefined);
  assert.equal(store.remove(MAPS, 'ns', 'a'), undefined);
  store.close();
});

test('lists come in the order of namespace and name, of one namespace or all', () => {
  const store = new Store({ path: ':memory:' });
  for (const [name, namespace] of [
    ['b', 'x'],
    ['a', 'y'],
    ['a', 'x'],
    ['c', 'xy'],
  ] as const)
    store.put(MAPS, object(name, '', namespace));
  const names = (namespace?: string): string[] =>
    store.list(MAPS, namespace).map(({ object }) => `${object.metadata.namespace}/${object.metadata.name}`);
  assert.deepEqual(names(), ['x/a', 'x/b', 'xy/c', 'y/a']);
  assert.deepEqual(names('x'), ['x/a', 'x/b']);
  store.close();
});

test('stored objects cannot be changed', () => {
  const store = new Store({ path: ':memory:' });
  const stored = store.put(MAPS, object('a', 'one'));
  assert.throws(() => {
    (stored.object.data as { value: string }).value = 'two';
  }, TypeError);
  store.close();
});

test('listeners hear of changes of their resource, with the state before', () => {
  const store = new Store({ path: ':memory:' });
  const heard: Change[] = [];
  const stop = store.subscribe(MAPS, (change) => heard.push(change));
  store.put(MAPS, object('a', 'one'));
  store.put(PODS, object('p'));
  store.put(MAPS, object('a', 'two'));
  store.remove(MAPS, 'ns', 'a');
  stop();
  store.put(MAPS, object('b'));
  assert.deepEqual(
    heard.map(({ type }) => type),
    ['ADDED', 'MODIFIED', 'DELETED'],
  );
  assert.equal(heard[0]?.previous, undefined);
  assert.deepEqual(heard[1]?.previous?.object.data, { value: 'one' });
  store.close();
});

test('a full ring forgets its oldest changes: resuming from before says expired', () => {
  const store = new Store({ path: ':memory:', ringSize: 4 });
  const first = store.put(MAPS, object('a')).rev;
  for (let index = 0; index < 10; index++) store.put(MAPS, object('a', String(index)));
  assert.equal(store.since(MAPS, first), 'expired');
  assert.deepEqual(store.since(MAPS, store.rev), []);
  assert.equal(store.since(MAPS, store.rev + 1), 'future');
  const recent = store.since(MAPS, store.rev - 2);
  assert.ok(typeof recent !== 'string');
  assert.deepEqual(
    recent.map(({ rev }) => rev),
    [store.rev - 1, store.rev],
  );
  store.close();
});

test('age forgets too, in memory and on disk', async () => {
  await inFolder((path) => {
    let nowMs = 0;
    const clock = { now: () => nowMs, monotonicMs: () => nowMs };
    const store = new Store({ path, ringAgeMs: 1000, clock });
    const old = store.put(MAPS, object('a')).rev;
    nowMs = 5000;
    const young = store.put(MAPS, object('b')).rev;
    store.compact();
    assert.equal(store.since(MAPS, old - 1), 'expired');
    assert.equal((store.since(MAPS, old) as readonly Change[]).length, 1);
    store.close();
    const again = new Store({ path, clock });
    assert.equal(again.since(MAPS, old - 1), 'expired');
    assert.deepEqual(
      (again.since(MAPS, old) as readonly Change[]).map(({ rev }) => rev),
      [young],
    );
    assert.equal(again.list(MAPS).length, 2);
    again.close();
  });
});

test('versions never repeat, even when every row of the log is gone', async () => {
  await inFolder((path) => {
    let nowMs = 0;
    const clock = { now: () => nowMs, monotonicMs: () => nowMs };
    const store = new Store({ path, ringAgeMs: 1000, clock });
    store.put(MAPS, object('a'));
    const last = store.remove(MAPS, 'ns', 'a')!.rev;
    nowMs = 5000;
    store.compact();
    store.close();
    const again = new Store({ path, clock });
    assert.equal(again.rev, last);
    assert.equal(again.put(MAPS, object('a')).rev, last + 1);
    again.close();
  });
});

test('a second server on the same file is refused', async () => {
  await inFolder((path) => {
    const store = new Store({ path });
    try {
      assert.throws(() => new Store({ path }), { code: 'LOCAL_MACHINE_FAILED' });
    } finally {
      store.close();
    }
  });
});

test('whatever is written is what a restart finds', async () => {
  const step = fc.record({
    name: fc.constantFrom('a', 'b', 'c'),
    value: fc.string(),
    remove: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      await inFolder((path) => {
        const store = new Store({ path });
        for (const { name, value, remove } of steps)
          if (remove) store.remove(MAPS, 'ns', name);
          else store.put(MAPS, object(name, value));
        const before = store.list(MAPS);
        const changes = store.since(MAPS, 1) as readonly Change[];
        const { rev } = store;
        store.close();
        const again = new Store({ path });
        assert.deepEqual(again.list(MAPS), before);
        assert.deepEqual(
          (again.since(MAPS, 1) as readonly Change[]).map(({ type, stored }) => [type, stored]),
          changes.map(({ type, stored }) => [type, stored]),
        );
        assert.equal(again.rev, rev);
        again.close();
      });
    }),
    { numRuns: 15 },
  );
});

test('kill -9 loses nothing that was acknowledged', async () => {
  await inFolder(async (path) => {
    const script = `
      const { Store, resourceKey } = await import(${JSON.stringify(new URL('./store.ts', import.meta.url).href)});
      const store = new Store({ path: ${JSON.stringify(path)} });
      for (let n = 0; n < 1e6; n++) {
        const { rev } = store.put(resourceKey('', 'configmaps'), { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'm' + (n % 50), namespace: 'ns' }, data: { n } });
        require('node:fs').writeSync(1, rev + '\\n');
      }`;
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `import { createRequire } from 'node:module'; const require = createRequire('/');${script}`,
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let acknowledged = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged = Number(line);
      if (acknowledged === 300) child.kill('SIGKILL');
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    const store = new Store({ path });
    assert.ok(acknowledged >= 300);
    assert.ok(store.rev >= acknowledged, `${store.rev} < ${acknowledged}`);
    // Fifty names in turn, from version 2 on: the newest state of each is at most fifty versions back.
    assert.ok(store.list(MAPS).every(({ rev }) => rev > store.rev - 50));
    store.close();
  });
});
