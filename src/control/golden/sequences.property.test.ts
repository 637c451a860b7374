// Any sequence of events ends where a fresh start from the same objects would. The events are about the objects of a few
// golden cases together: these belong together, and cases of one file say different things about the same names.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bare, type GoldenCase, type GoldenObject, goldenCases } from './cases.ts';
import { Held, keyOf } from './held.ts';

const CASES = goldenCases();
/** The case in which everything hangs together. */
const EVERY_KIND = CASES.reduce((most, it) => (kindsOf(it) > kindsOf(most) ? it : most));
const BY_FILE = [...Map.groupBy(CASES, ({ file }) => file).values()];

const someCases = fc
  .constantFrom(...BY_FILE)
  .chain((ofFile) =>
    fc.tuple(
      fc.shuffledSubarray(ofFile, { minLength: 2, maxLength: 3 }),
      fc.oneof(fc.constant(EVERY_KIND), fc.constantFrom(...CASES)),
    ),
  )
  .map(([ofFile, other]) => [...ofFile, other]);

interface Step {
  readonly event: GoldenObject;
  readonly removed: boolean;
  readonly configured: GoldenCase | undefined;
  readonly flush: boolean;
}

const sequence: fc.Arbitrary<Step[]> = someCases.chain((cases) => {
  const objects = cases.flatMap((it) => it.objects);
  return fc.array(
    fc.record({
      event: fc.constantFrom(...objects, ...objects, ...objects.map(bare)),
      removed: fc.nat(4).map((die) => die === 0),
      configured: fc.option(fc.constantFrom(...cases), { nil: undefined, freq: 8 }),
      flush: fc.boolean(),
    }),
    { minLength: 15, maxLength: 60, size: 'max' },
  );
});

/** Settings change what looks at what. */
const someOptions = fc.record({ onlyByWaypoint: fc.boolean() });

test('after any sequence of events the state is what a new control plane would compute', () => {
  fc.assert(
    fc.property(sequence, someOptions, (steps, options) => {
      const lived = new Held(options);
      const final = new Map<string, GoldenObject>();
      let config = CASES[0]!.config;
      for (const { event, removed, configured, flush } of steps) {
        if (configured !== undefined) {
          config = configured.config;
          lived.model.configure(config);
        }
        const key = keyOf(event.kind, event.object);
        if (removed) {
          lived.drop(event);
          final.delete(key);
        } else {
          lived.put(event);
          final.set(key, event);
        }
        if (flush) lived.model.index.flush();
      }
      lived.model.index.flush();
      const fresh = new Held(options);
      fresh.model.configure(config);
      for (const object of [...final.values()].reverse()) fresh.put(object);
      fresh.model.index.flush();
      assert.deepEqual(lived.contents(), fresh.contents());
    }),
    { numRuns: 1000 },
  );
});

test('one case speaks of every kind', () => assert.equal(kindsOf(EVERY_KIND), 11));

function kindsOf({ objects }: GoldenCase): number {
  return new Set(objects.map(({ kind }) => kind)).size;
}
