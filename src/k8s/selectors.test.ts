import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import type { LabelSelector } from './objects.ts';
import {
  formatRequirements,
  formatSelector,
  matchesLabels,
  matchesRequirements,
  matchesSelector,
  parseSelector,
  type Requirement,
  requirementsOf,
} from './selectors.ts';

test('the string form is read', () => {
  const cases: readonly [string, Requirement[]][] = [
    ['', []],
    ['  ', []],
    ['app=web', [{ key: 'app', operator: 'In', values: ['web'] }]],
    ['app == web', [{ key: 'app', operator: 'In', values: ['web'] }]],
    ['app=', [{ key: 'app', operator: 'In', values: [''] }]],
    ['app!=web', [{ key: 'app', operator: 'NotIn', values: ['web'] }]],
    ['tier in (a, b)', [{ key: 'tier', operator: 'In', values: ['a', 'b'] }]],
    ['tier in(,b)', [{ key: 'tier', operator: 'In', values: ['', 'b'] }]],
    ['tier notin (a)', [{ key: 'tier', operator: 'NotIn', values: ['a'] }]],
    ['istio.io/dataplane-mode', [{ key: 'istio.io/dataplane-mode', operator: 'Exists' }]],
    ['! canary', [{ key: 'canary', operator: 'DoesNotExist' }]],
    [
      'n>1,n<9',
      [
        { key: 'n', operator: 'Gt', values: ['1'] },
        { key: 'n', operator: 'Lt', values: ['9'] },
      ],
    ],
    [
      'in in (in,notin),notin',
      [
        { key: 'in', operator: 'In', values: ['in', 'notin'] },
        { key: 'notin', operator: 'Exists' },
      ],
    ],
  ];
  for (const [text, expected] of cases) assert.deepEqual(parseSelector(text), expected, text);
});

test('malformed selectors are refused with the text and the problem', () => {
  for (const text of [
    '=a',
    'a=b=c',
    'a in b',
    'a in (b',
    'a,,b',
    'a b',
    ',',
    'a=b,',
    'a>x',
    '-a',
    'a=b c',
    'a=-b',
    '!',
  ])
    assert.throws(
      () => parseSelector(text),
      (error) =>
        error instanceof MeshError && error.code === 'CONFIG_INVALID' && error.message.includes(text),
      text,
    );
});

test('matching: a missing label is in no set and so fulfils every negative requirement', () => {
  const cases: readonly [string, Record<string, string> | undefined, boolean][] = [
    ['', undefined, true],
    ['a=1', { a: '1' }, true],
    ['a=1', { a: '2' }, false],
    ['a=1', undefined, false],
    ['a!=1', undefined, true],
    ['a!=1', { a: '1' }, false],
    ['a in (1,2)', { a: '2' }, true],
    ['a notin (1,2)', { b: '1' }, true],
    ['a', { a: '' }, true],
    ['!a', { a: '' }, false],
    ['a>5', { a: '6' }, true],
    ['a>5', { a: '5' }, false],
    ['a<5', { a: 'x' }, false],
    ['a=1,b', { a: '1' }, false],
    ['constructor', {}, false],
  ];
  for (const [text, labels, expected] of cases)
    assert.equal(
      matchesRequirements(parseSelector(text), labels),
      expected,
      `${text} on ${JSON.stringify(labels)}`,
    );
});

test('an absent selector matches nothing, an empty one everything', () => {
  assert.equal(matchesSelector(undefined, { a: '1' }), false);
  assert.equal(matchesSelector({}, { a: '1' }), true);
  assert.equal(matchesSelector({}, undefined), true);
  assert.equal(matchesLabels({}, undefined), true);
  assert.equal(matchesLabels({ a: '1' }, { a: '1', b: '2' }), true);
  assert.equal(matchesLabels({ a: '1' }, { b: '2' }), false);
});

const word = fc.stringMatching(/^[a-z]([a-z0-9.-]{0,6}[a-z0-9])?$/);
const selector: fc.Arbitrary<LabelSelector> = fc.record({
  matchLabels: fc.dictionary(word, word, { maxKeys: 3 }),
  matchExpressions: fc.array(
    fc.oneof(
      fc.record({
        key: word,
        operator: fc.constantFrom('In' as const, 'NotIn' as const),
        values: fc.array(word, { minLength: 1, maxLength: 3 }),
      }),
      fc.record({ key: word, operator: fc.constantFrom('Exists' as const, 'DoesNotExist' as const) }),
    ),
    { maxLength: 3 },
  ),
});

test('formatting and parsing give the requirements back, and both forms match alike', () => {
  fc.assert(
    fc.property(selector, fc.dictionary(word, word), (structured, labels) => {
      const requirements = requirementsOf(structured);
      const text = formatSelector(structured);
      assert.deepEqual(parseSelector(text), requirements);
      assert.equal(formatRequirements(parseSelector(text)), text);
      assert.equal(matchesRequirements(requirements, labels), matchesSelector(structured, labels));
    }),
  );
});

test('no text makes the parser fail in another way', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        parseSelector(text);
      } catch (error) {
        assert.ok(error instanceof MeshError);
      }
    }),
  );
});
