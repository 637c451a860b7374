import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { JsonObject } from './object.ts';
import { applyDefaults, prune, type StructuralSchema, validateSchema } from './schema.ts';

const SCHEMA: StructuralSchema = {
  type: 'object',
  required: ['spec'],
  properties: {
    spec: {
      type: 'object',
      properties: {
        size: { type: 'integer', minimum: 1, maximum: 9, default: 3 },
        mode: { type: 'string', enum: ['on', 'off'] },
        tags: { type: 'array', maxItems: 2, items: { type: 'string', minLength: 1, pattern: '^[a-z]+$' } },
        port: { 'x-kubernetes-int-or-string': true },
        free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        map: {
          type: 'object',
          additionalProperties: { type: 'object', properties: { x: { type: 'boolean' } } },
        },
        items: {
          type: 'array',
          'x-kubernetes-list-type': 'map',
          'x-kubernetes-list-map-keys': ['name'],
          items: { type: 'object', required: ['name'], properties: { name: { type: 'string' } } },
        },
        maybe: { type: 'string', nullable: true },
        either: {
          type: 'object',
          properties: { a: { type: 'string' }, b: { type: 'string' } },
          oneOf: [{ required: ['a'] }, { required: ['b'] }],
        },
      },
    },
  },
};

const validate = (spec: unknown): string[] =>
  validateSchema(SCHEMA, { spec }, '').map(({ path, type }) => `${path} ${type}`);

test('unknown fields go, with their paths; preserved and mapped ones stay', () => {
  const object: JsonObject = {
    apiVersion: 'x/v1',
    kind: 'X',
    metadata: { anything: 1 },
    extra: 1,
    spec: {
      siz: 1,
      tags: ['a'],
      free: { a: { b: 1 } },
      map: { k: { x: true, y: 1 } },
      items: [{ name: 'n', nam: 1 }],
    },
  };
  assert.deepEqual(prune(SCHEMA, object), ['extra', 'spec.siz', 'spec.map.k.y', 'spec.items[0].nam']);
  assert.deepEqual(object.spec, {
    tags: ['a'],
    free: { a: { b: 1 } },
    map: { k: { x: true } },
    items: [{ name: 'n' }],
  });
  assert.deepEqual(object.metadata, { anything: 1 });
});

test('a field called constructor is unknown like any other', () => {
  assert.deepEqual(prune(SCHEMA, { spec: { constructor: 1 } }), ['spec.constructor']);
});

test('defaults fill what is absent, or null where null may not be', () => {
  for (const spec of [{}, { size: null }]) {
    const object = { spec };
    applyDefaults(SCHEMA, object);
    assert.deepEqual(object, { spec: { size: 3 } });
  }
});

const CASES: readonly (readonly [spec: unknown, errors: string[]])[] = [
  [{}, []],
  ['text', ['spec TypeInvalid']],
  [{ size: 0 }, ['spec.size Invalid']],
  [{ size: 10 }, ['spec.size Invalid']],
  [{ size: 1.5 }, ['spec.size TypeInvalid']],
  [{ size: '3' }, ['spec.size TypeInvalid']],
  [{ mode: 'maybe' }, ['spec.mode NotSupported']],
  [{ tags: ['a', 'b', 'c'] }, ['spec.tags TooMany']],
  [{ tags: [''] }, ['spec.tags[0] Invalid', 'spec.tags[0] Invalid']],
  [{ tags: ['A'] }, ['spec.tags[0] Invalid']],
  [{ port: 80 }, []],
  [{ port: 'http' }, []],
  [{ port: true }, ['spec.port TypeInvalid']],
  [{ items: [{ name: 'a' }, { name: 'b' }] }, []],
  [{ items: [{ name: 'a' }, { name: 'a' }] }, ['spec.items[1] Duplicate']],
  [{ items: [{}] }, ['spec.items[0].name Required']],
  [{ maybe: null }, []],
  [{ mode: null }, ['spec.mode TypeInvalid']],
  [{ map: { k: { x: 'yes' } } }, ['spec.map.k.x TypeInvalid']],
  [{ either: { a: '1' } }, []],
  [{ either: { a: '1', b: '2' } }, ['spec.either Invalid']],
];

for (const [spec, errors] of CASES)
  test(`validation of ${JSON.stringify(spec)}`, () => assert.deepEqual(validate(spec), errors));

test('a missing required field is named', () => {
  assert.deepEqual(validateSchema(SCHEMA, {}, ''), [{ path: 'spec', type: 'Required', message: '' }]);
});

test('any JSON: a walk never throws, and after pruning nothing is left to prune', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom('spec', 'size', 'x'), fc.jsonValue()), (object) => {
      const copy = structuredClone(object) as JsonObject;
      prune(SCHEMA, copy);
      applyDefaults(SCHEMA, copy);
      validateSchema(SCHEMA, copy, '');
      assert.deepEqual(prune(SCHEMA, copy), []);
    }),
  );
});
