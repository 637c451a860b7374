import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { editDistance, nearest } from './suggest.ts';

test('the distance of known pairs', () => {
  const cases: readonly [string, string, number][] = [
    ['', '', 0],
    ['abc', '', 3],
    ['kitten', 'sitting', 3],
    ['profle', 'profile', 1],
    ['flaw', 'lawn', 2],
  ];
  for (const [a, b, expected] of cases) assert.equal(editDistance(a, b), expected, `${a} ${b}`);
});

test('the distance is symmetric and obeys the triangle inequality', () => {
  const word = fc.string({ maxLength: 8 });
  fc.assert(
    fc.property(word, word, word, (a, b, c) => {
      assert.equal(editDistance(a, b), editDistance(b, a));
      assert.ok(editDistance(a, c) <= editDistance(a, b) + editDistance(b, c));
      assert.equal(editDistance(a, b) === 0, a === b);
    }),
  );
});

test('what is far from every known word gets no suggestion', () => {
  assert.equal(nearest('instal', ['install', 'uninstall']), 'install');
  assert.equal(nearest('xyzzy', ['install', 'uninstall']), undefined);
});
