import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { pathTexts } from './field-path.ts';
import {
  addPath,
  difference,
  type FieldSet,
  type FieldSetDraft,
  fieldElement,
  fieldSetFrom,
  intersection,
  keyElement,
  union,
  valueElement,
} from './field-set.ts';

const element = fc.oneof(
  fc.constantFrom('a', 'b', 'constructor', '__proto__', '.').map(fieldElement),
  fc.record({ name: fc.constantFrom('x', 'y "q"'), port: fc.constantFrom(80, 443) }).map(keyElement),
  fc.constantFrom<unknown>('s', 5, 0.5, true).map(valueElement),
);
const path = fc.array(element, { minLength: 1, maxLength: 4 });

const setOf = (paths: readonly (readonly string[])[]): FieldSet => {
  const set: FieldSetDraft = {};
  for (const each of paths) addPath(set, each);
  return set;
};
const fields = fc.array(path, { maxLength: 8 }).map(setOf);

// The model: a set of texts.
const texts = (set: FieldSet): Set<string> => new Set(pathTexts(set));

test('field sets: union, difference and intersection are those of sets of paths', () => {
  fc.assert(
    fc.property(fields, fields, (a, b) => {
      const before = JSON.stringify([a, b]);
      const inB = texts(b);
      const common = [...texts(a)].filter((each) => inB.has(each));
      const rest = [...texts(a)].filter((each) => !inB.has(each));
      assert.deepEqual(texts(union(a, b)), new Set([...rest, ...inB]));
      assert.deepEqual(texts(difference(a, b)), new Set(rest));
      assert.deepEqual(texts(intersection(a, b)), new Set(common));
      assert.equal(JSON.stringify([a, b]), before, 'neither is changed');
    }),
    { numRuns: 500 },
  );
});

test('field sets: every path added is in it, whatever the order', () => {
  fc.assert(
    fc.property(fc.array(path, { maxLength: 8 }), (paths) => {
      assert.deepEqual(texts(setOf(paths)), texts(setOf(paths.toReversed())));
      assert.equal(texts(setOf(paths)).size, new Set(paths.map((each) => JSON.stringify(each))).size);
    }),
  );
});

test('field sets: what was written is what is read', () => {
  fc.assert(
    fc.property(fields, (set) => {
      assert.deepEqual(fieldSetFrom(JSON.parse(JSON.stringify(set))), set);
    }),
  );
});

test('field sets: keys in another order are the same item, and a lone dot is the field itself', () => {
  assert.deepEqual(fieldSetFrom({ 'k:{"protocol":"TCP","port":80}': { '.': {} } }), {
    'k:{"port":80,"protocol":"TCP"}': {},
  });
  assert.deepEqual(fieldSetFrom({ 'f:a': null, 'x:later': {} }), { 'f:a': {} });
});

test('field sets: what is none is none', () => {
  for (const bad of [
    5,
    [],
    { a: {} },
    { 'f:a': 5 },
    { 'k:{': {} },
    { 'k:5': {} },
    { 'v:': {} },
    { 'i:x': {} },
  ])
    assert.equal(fieldSetFrom(bad), undefined, JSON.stringify(bad));
});

test('field sets: paths as they are told to people', () => {
  const set = setOf([
    ['f:spec', 'f:ports', 'k:{"port":443,"protocol":"TCP"}', 'f:name'],
    ['f:spec', 'f:ports', 'k:{"port":80,"protocol":"TCP"}'],
    ['f:spec', 'f:ports', 'k:{"port":80,"protocol":"TCP"}', 'f:name'],
    ['f:metadata', 'f:finalizers', 'v:"a/b"'],
    ['f:zone'],
  ]);
  assert.deepEqual(pathTexts(set), [
    '.zone',
    '.metadata.finalizers[="a/b"]',
    '.spec.ports[port=80,protocol="TCP"]',
    '.spec.ports[port=80,protocol="TCP"].name',
    '.spec.ports[port=443,protocol="TCP"].name',
  ]);
});
