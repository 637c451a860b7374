// What is the same for several clients is made once; what has changed since is made anew.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeDeltaResponse } from '#proto/discovery.ts';
import { SharedSource } from './shared-source.ts';
import type { ResourceSource, XdsResource } from './source.ts';

class CountedSource implements ResourceSource {
  readonly typeUrl = 'T';
  readonly held = new Map<string, XdsResource>();
  /** How often the bytes of a resource were read. */
  encoded = 0;
  readonly #listeners = new Set<(names: ReadonlySet<string>) => void>();

  list(): Iterable<XdsResource> {
    return this.held.values();
  }

  get(name: string): XdsResource | undefined {
    return this.held.get(name);
  }

  onChange(handler: (names: ReadonlySet<string>) => void): () => void {
    this.#listeners.add(handler);
    return () => this.#listeners.delete(handler);
  }

  put(name: string, value: number, aliases: readonly string[] = []): void {
    const count = (): void => {
      this.encoded++;
    };
    this.held.set(name, {
      name,
      version: `${value}`,
      aliases,
      get bytes() {
        count();
        return Uint8Array.of(value);
      },
    });
    for (const listener of this.#listeners) listener(new Set([name]));
  }
}

const read = (body: Uint8Array): (readonly [string, number | undefined, readonly string[] | undefined])[] =>
  decodeDeltaResponse(body).resources.map(({ name, value, aliases }) => [name, value[0], aliases]);

test('everything, a push and each resource are encoded once, until they change', () => {
  const source = new CountedSource();
  const shared = new SharedSource(source);
  source.put('a', 1);
  source.put('b', 2);
  const first = shared.body(shared.everything());
  assert.equal(shared.body(shared.everything()), first);
  assert.equal(source.encoded, 2);
  const pushed = new Set(['a', 'gone']);
  const push = shared.changes(pushed);
  assert.equal(shared.body(shared.changes(pushed)), shared.body(push));
  assert.deepEqual(push.removed, ['gone']);
  assert.equal(source.encoded, 2);

  source.put('a', 3);
  // A client that was slow takes the same names later: it is told what holds now.
  assert.deepEqual(read(shared.body(shared.changes(pushed))), [['a', 3, undefined]]);
  assert.deepEqual(read(shared.body(shared.everything())), [
    ['a', 3, undefined],
    ['b', 2, undefined],
  ]);
  assert.equal(source.encoded, 3);
});

test('aliases are sent on demand only', () => {
  const source = new CountedSource();
  const shared = new SharedSource(source);
  source.put('a', 1, ['/10.0.0.1']);
  const resources = [...source.list()];
  assert.deepEqual(read(shared.body({ resources, removed: [], aliases: true })), [['a', 1, ['/10.0.0.1']]]);
  assert.deepEqual(read(shared.body({ resources, removed: [], aliases: false })), [['a', 1, undefined]]);
});
