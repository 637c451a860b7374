// Lists in chunks and of former moments; and the promise under every informer: what a client gathers from lists, watches,
// bookmarks, resumes and relists is what there is.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Chunk, chunkOf } from './list-chunk.ts';
import type { ApiObject } from './object.ts';
import { selectorFilter } from './selectors.ts';
import { StatusError } from './status.ts';
import { makeRig, type Rig, refusalOf } from './test-rig.ts';
import { startWatch } from './watch.ts';

const put = (rig: Rig, name: string, colour: string): void => {
  const body = { metadata: { name, labels: { colour } } };
  if (rig.get('configmaps', name) === undefined) rig.create('configmaps', body);
  else rig.update('configmaps', body);
};

const chunk = (rig: Rig, query: Record<string, string>): Chunk =>
  chunkOf(rig, rig.kind('configmaps'), 'default', new URLSearchParams(query));
const names = ({ items }: Chunk): string[] => items.map(({ object }) => object.metadata.name);

function fiveMaps(options?: { readonly ringSize: number }): Rig {
  const rig = makeRig(options);
  for (const name of ['a', 'b', 'c', 'd', 'e']) put(rig, name, 'red');
  return rig;
}

test('chunks of one list show one moment, whatever is written in between', () => {
  const rig = fiveMaps();
  const first = chunk(rig, { limit: '2' });
  assert.deepEqual(names(first), ['a', 'b']);
  assert.equal(first.metadata.remainingItemCount, 3);
  rig.remove('configmaps', 'c');
  put(rig, 'bb', 'new');
  put(rig, 'd', 'blue');
  const second = chunk(rig, { limit: '2', continue: first.metadata.continue! });
  assert.deepEqual(names(second), ['c', 'd']);
  assert.equal(second.items[1]?.object.metadata.labels?.colour, 'red');
  assert.equal(second.metadata.resourceVersion, first.metadata.resourceVersion);
  const last = chunk(rig, { limit: '2', continue: second.metadata.continue! });
  assert.deepEqual(names(last), ['e']);
  assert.equal(last.metadata.continue, undefined);
  assert.deepEqual(names(chunk(rig, {})), ['a', 'b', 'bb', 'd', 'e']);
});

test('under a selector a chunk is as long as asked for, and nobody guesses what is left', () => {
  const rig = fiveMaps();
  put(rig, 'b', 'blue');
  put(rig, 'd', 'blue');
  put(rig, 'e', 'blue');
  const first = chunk(rig, { limit: '2', labelSelector: 'colour=blue' });
  assert.deepEqual(names(first), ['b', 'd']);
  assert.equal(first.metadata.remainingItemCount, undefined);
  assert.deepEqual(names(chunk(rig, { labelSelector: 'colour=blue', continue: first.metadata.continue! })), [
    'e',
  ]);
});

test('a moment that is forgotten is 410, with a way to go on', () => {
  const rig = fiveMaps({ ringSize: 8 });
  const first = chunk(rig, { limit: '2' });
  for (let round = 0; round < 20; round++) put(rig, 'e', String(round));
  put(rig, 'f', 'late');
  const gone = refusalOf(() => chunk(rig, { limit: '2', continue: first.metadata.continue! })).body;
  assert.equal(gone.code, 410);
  assert.equal(gone.reason, 'Expired');
  assert.deepEqual(names(chunk(rig, { continue: gone.metadata.continue! })), ['c', 'd', 'e', 'f']);
  const exact = { resourceVersion: first.metadata.resourceVersion, resourceVersionMatch: 'Exact' };
  assert.equal(refusalOf(() => chunk(rig, exact)).body.code, 410);
});

test('resourceVersionMatch: Exact shows that moment, NotOlderThan the newest', () => {
  const rig = fiveMaps();
  const { resourceVersion } = chunk(rig, {}).metadata;
  rig.remove('configmaps', 'a');
  put(rig, 'z', 'new');
  const then = ['a', 'b', 'c', 'd', 'e'];
  const now = ['b', 'c', 'd', 'e', 'z'];
  const exact = chunk(rig, { resourceVersion, resourceVersionMatch: 'Exact' });
  assert.deepEqual(names(exact), then);
  assert.equal(exact.metadata.resourceVersion, resourceVersion);
  assert.deepEqual(names(chunk(rig, { resourceVersion, resourceVersionMatch: 'NotOlderThan' })), now);
  assert.deepEqual(names(chunk(rig, { resourceVersion })), now);
  // With a limit a version means exactly that one; "any" ignores the limit, as a cache does.
  assert.deepEqual(names(chunk(rig, { resourceVersion, limit: '3' })), ['a', 'b', 'c']);
  assert.deepEqual(names(chunk(rig, { resourceVersion: '0', limit: '2' })), now);
});

test('questions that contradict themselves are refused', () => {
  const rig = fiveMaps();
  const token = chunk(rig, { limit: '2' }).metadata.continue!;
  const cases: [Record<string, string>, number, RegExp][] = [
    [{ continue: 'rubbish' }, 400, /continue key is not valid/],
    [{ continue: token, resourceVersion: '5' }, 400, /not allowed when using continue/],
    [{ continue: token, resourceVersionMatch: 'Exact' }, 422, /forbidden with continue/],
    [{ resourceVersionMatch: 'Exact' }, 422, /forbidden unless resourceVersion is provided/],
    [
      { resourceVersionMatch: 'Newest', resourceVersion: '1' },
      422,
      /supported values: "Exact", "NotOlderThan"/,
    ],
    [{ resourceVersionMatch: 'Exact', resourceVersion: '0' }, 422, /forbidden for resourceVersion "0"/],
    [{ resourceVersion: 'x' }, 400, /invalid resource version "x"/],
    [{ resourceVersion: '999999' }, 504, /Too large resource version/],
    [{ limit: 'many' }, 400, /limit must be a whole number/],
  ];
  for (const [query, code, words] of cases) {
    const body = refusalOf(() => chunk(rig, query)).body;
    assert.equal(body.code, code, JSON.stringify(query));
    assert.match(body.message ?? '', words);
  }
});

/** A client as informers are: lists in chunks, follows from the version it knows, lists again when told 410. */
class Follower {
  readonly held = new Map<string, string>();
  readonly #rig: Rig;
  readonly #selector: string;
  readonly #watchList: boolean;
  #version: string | undefined;
  #stop: (() => void) | undefined;
  #expired = false;

  constructor(rig: Rig, selector: string, watchList: boolean) {
    this.#rig = rig;
    this.#selector = selector;
    this.#watchList = watchList;
  }

  disconnect(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  /** `between` happens while the list is under way. */
  connect(between: () => void): void {
    if (this.#stop !== undefined) return;
    if (this.#version === undefined && !this.#watchList) this.#list(between);
    this.#watch();
    if (!this.#expired) return;
    this.#expired = false;
    this.#version = undefined;
    this.connect(between);
  }

  #list(between: () => void): void {
    const found = new Map<string, string>();
    let token: string | undefined;
    do {
      try {
        const query = {
          labelSelector: this.#selector,
          limit: '2',
          ...(token === undefined ? {} : { continue: token }),
        };
        const { items, metadata } = chunk(this.#rig, query);
        for (const { object } of items) found.set(object.metadata.name, object.metadata.resourceVersion!);
        this.#version = metadata.resourceVersion;
        token = metadata.continue;
      } catch (error) {
        if (!(error instanceof StatusError) || error.body.code !== 410) throw error;
        found.clear();
        token = undefined;
        continue;
      }
      between();
    } while (token !== undefined);
    this.#replace(found);
  }

  #replace(found: ReadonlyMap<string, string>): void {
    this.held.clear();
    for (const [name, version] of found) this.held.set(name, version);
  }

  #watch(): void {
    const initial = this.#version === undefined ? new Map<string, string>() : undefined;
    let ended = false;
    const stop = startWatch(
      this.#rig,
      {
        kind: this.#rig.kind('configmaps'),
        namespace: 'default',
        filter: selectorFilter(
          this.#rig.kind('configmaps'),
          new URLSearchParams({ labelSelector: this.#selector }),
        ),
        form: 'object',
        include: 'Metadata',
        resourceVersion: this.#version,
        sendInitialEvents: initial === undefined ? undefined : true,
        allowBookmarks: true,
        timeoutMs: 1e9,
      },
      {
        write: (line) => {
          const { type, object } = JSON.parse(line) as {
            type: string;
            object: ApiObject & { code?: number };
          };
          const { name, resourceVersion = '', annotations } = object.metadata;
          if (type === 'ERROR') {
            assert.equal(object.code, 410);
            this.#expired = true;
            return true;
          }
          if (type === 'BOOKMARK') {
            if (annotations?.['k8s.io/initial-events-end'] === 'true') this.#replace(initial!);
          } else {
            const target = initial !== undefined && this.#version === undefined ? initial : this.held;
            if (type === 'DELETED') assert.ok(target.delete(name), `${name} was not known`);
            else {
              assert.equal(type, target.has(name) ? 'MODIFIED' : 'ADDED', name);
              target.set(name, resourceVersion);
            }
            if (target === initial) return true;
          }
          assert.ok(Number(resourceVersion) >= Number(this.#version ?? 0), 'versions never go back');
          this.#version = resourceVersion;
          return true;
        },
        end: () => {
          ended = true;
        },
      },
    );
    if (!ended) this.#stop = stop;
  }
}

const anyName = fc.constantFrom('a', 'b', 'c', 'd');
const anyStep = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      what: fc.constant('put' as const),
      name: anyName,
      colour: fc.constantFrom('red', 'blue'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('remove' as const), name: anyName }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('other' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      what: fc.constantFrom('disconnect' as const, 'connect' as const, 'minute' as const),
    }),
  },
);

test('property: lists, watches, bookmarks, resumes and relists together are what there is', (t) => {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  const shapes = fc.record({
    steps: fc.array(anyStep, { maxLength: 60 }),
    selector: fc.constantFrom('', 'colour=red', 'colour!=red'),
    watchList: fc.boolean(),
    ringSize: fc.constantFrom(3, 6, 1000),
  });
  fc.assert(
    fc.property(shapes, ({ steps, selector, watchList, ringSize }) => {
      const rig = makeRig({ ringSize });
      const follower = new Follower(rig, selector, watchList);
      let written = 0;
      const other = (): void => void rig.create('secrets', { metadata: { name: `s${written++}` } });
      let budget = 6;
      const between = (): void => {
        if (budget-- > 0) put(rig, 'c', String(written++));
      };
      follower.connect(between);
      for (const step of steps) {
        if (step.what === 'put') put(rig, step.name, step.colour);
        else if (step.what === 'remove') {
          if (rig.get('configmaps', step.name) !== undefined) rig.remove('configmaps', step.name);
        } else if (step.what === 'other') other();
        else if (step.what === 'disconnect') follower.disconnect();
        else if (step.what === 'connect') follower.connect(between);
        else {
          t.mock.timers.tick(60_000); // a bookmark
          rig.advance(60_000);
          rig.store.compact();
        }
      }
      follower.connect(between);
      const expected = chunk(rig, { labelSelector: selector }).items.map(({ object }) => [
        object.metadata.name,
        object.metadata.resourceVersion,
      ]);
      assert.deepEqual(new Map([...follower.held].sort()), new Map(expected as [string, string][]));
      follower.disconnect();
    }),
    { numRuns: 200 },
  );
});
