import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { duplicateFields } from './duplicate-fields.ts';

test('fields named twice are found at any depth, with their paths', () => {
  for (const [text, paths] of [
    ['{"a":1,"b":{"a":2}}', []],
    ['{"a":1,"a":2,"a":3}', ['a']],
    ['{"spec":{"ports":[{"port":1},{"port":1, "port" : 2}]}}', ['spec.ports[1].port']],
    ['{"metadata":{"labels":{"x.y/z":"1","x.y/z":"2"}}}', ['metadata.labels.x.y/z']],
    ['{"a\\"b":1,"a\\u0022b":2}', ['a"b']],
    ['{"a":"{\\"b\\":1,\\"b\\":2}","b":["a","a"],"c":"a"}', []],
    ['{"a":[[{"b":1}],{"b":{"c":[],"c":[]}}]}', ['a[1].b.c']],
    ['[]', []],
    ['"a"', []],
  ] as const)
    assert.deepEqual(duplicateFields(text), paths, text);
});

test('JSON without such fields has none, whatever it holds', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), fc.constantFrom(0, 2), (text, indent) => {
      assert.deepEqual(duplicateFields(JSON.stringify(JSON.parse(text), null, indent)), []);
    }),
  );
});

test('texts that are no JSON end as well', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'{}[]",:\\ab') }), (text) => {
      try {
        duplicateFields(text);
      } catch (error) {
        assert.ok(error instanceof SyntaxError);
      }
    }),
  );
});
