// Runs the golden cases: each as it stands, and each in random orders of events with detours, which must end where a
// fresh start ends.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Readable, readableAddress, readableAuthorization } from '#proto/readable.ts';
import type { ResourceSet } from '../ambient/resource-set.ts';
import { bare, type GoldenCase, goldenCases } from './cases.ts';
import { Held } from './held.ts';

const CASES = goldenCases();

test('there are at least 150 cases, and no two say the same', () => {
  assert.ok(CASES.length >= 150, `${CASES.length} cases`);
  const sentences = CASES.map(({ file, says }) => `${file}: ${says}`);
  assert.equal(new Set(sentences).size, sentences.length);
});

for (const file of new Set(CASES.map((it) => it.file)))
  describe(file, () => {
    for (const golden of CASES.filter((it) => it.file === file))
      test(`${golden.spec} ${golden.says}`, () => {
        const model = new Held(golden.options);
        model.model.configure(golden.config);
        for (const object of golden.objects) model.put(object);
        model.model.index.flush();
        compare(model.model.addresses, readableAddress, golden.expect, golden.exact);
        compare(model.model.policies, readableAuthorization, golden.policies, golden.exact);
        assertOrderDoesNotMatter(golden, model);
      });
  });

function assertOrderDoesNotMatter({ objects, config, options }: GoldenCase, fresh: Held): void {
  const step = fc.record({ detour: fc.constantFrom('none', 'twice', 'bare'), flush: fc.boolean() });
  const orders = fc.tuple(
    fc.shuffledSubarray([...objects], { minLength: objects.length }),
    fc.array(step, { minLength: objects.length, maxLength: objects.length }),
    fc.nat(objects.length),
  );
  fc.assert(
    fc.property(orders, ([order, steps, configuredAt]) => {
      const lived = new Held(options);
      order.forEach((object, index) => {
        const { detour, flush } = steps[index]!;
        if (index === configuredAt) lived.model.configure(config);
        if (detour === 'bare') lived.put(bare(object));
        else lived.put(object);
        if (flush) lived.model.index.flush();
        if (detour === 'twice') {
          lived.drop(object);
          if (flush) lived.model.index.flush();
        }
        if (detour !== 'none') lived.put(object);
      });
      if (configuredAt >= order.length) lived.model.configure(config);
      lived.model.index.flush();
      assert.deepEqual(lived.contents(), fresh.contents());
    }),
    { numRuns: 12 },
  );
}

function compare(
  set: ResourceSet,
  read: (bytes: Uint8Array, exact: boolean) => Readable,
  expected: Readonly<Record<string, Readable>>,
  exact: boolean,
): void {
  const published = new Map([...set.list()].map(({ name, bytes }) => [name, read(bytes, exact)]));
  assert.deepEqual([...published.keys()].sort(), Object.keys(expected).sort(), 'names of what is published');
  for (const [name, fields] of Object.entries(expected)) {
    const resource = published.get(name)!;
    const shown = exact
      ? resource
      : Object.fromEntries(Object.keys(fields).map((field) => [field, resource[field] ?? null]));
    assert.deepEqual(plain(shown), plain(fields), name);
  }
}

/** Maps of one content are equal whatever the order of their keys was. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
