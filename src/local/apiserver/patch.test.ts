import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { jsonPatch, mergePatch } from './patch.ts';
import { StatusError } from './status.ts';

// RFC 7386, appendix A, row by row.
const MERGE: readonly (readonly [target: unknown, patch: unknown, result: unknown])[] = [
  [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
  [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
  [{ a: 'b' }, { a: null }, {}],
  [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
  [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
  [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
  [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
  [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
  [
    ['a', 'b'],
    ['c', 'd'],
    ['c', 'd'],
  ],
  [{ a: 'b' }, ['c'], ['c']],
  [{ a: 'foo' }, null, null],
  [{ a: 'foo' }, 'bar', 'bar'],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: 'b', c: null }, { a: 'b' }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
];

test('merge patch: the examples of RFC 7386', () => {
  for (const [target, patch, result] of MERGE) assert.deepEqual(mergePatch(target, patch), result);
});

test('merge patch: applying twice is applying once, and nothing given is changed', () => {
  const object = fc.dictionary(fc.constantFrom('a', 'b', 'constructor', 'c'), fc.jsonValue());
  fc.assert(
    fc.property(object, object, (target, patch) => {
      const before = JSON.stringify([target, patch]);
      const once = mergePatch(target, patch);
      assert.deepEqual(mergePatch(once, patch), once);
      assert.equal(JSON.stringify([target, patch]), before);
      assert.equal(({} as { polluted?: unknown }).polluted, undefined);
    }),
  );
});

test('a patch of `constructor` stays in the object', () => {
  mergePatch({}, { constructor: { prototype: { polluted: true } } });
  assert.equal(({} as { polluted?: unknown }).polluted, undefined);
});

test('JSON patch: every operation', () => {
  const target = { a: { b: [1, 2] }, c: 'd' };
  const patch = [
    { op: 'test', path: '/c', value: 'd' },
    { op: 'add', path: '/a/b/1', value: 9 },
    { op: 'replace', path: '/c', value: 'e' },
    { op: 'copy', from: '/c', path: '/f' },
    { op: 'move', from: '/a', path: '/g' },
    { op: 'remove', path: '/g/b/0' },
  ];
  assert.deepEqual(jsonPatch(target, patch), { c: 'e', f: 'e', g: { b: [9, 2] } });
  assert.deepEqual(target, { a: { b: [1, 2] }, c: 'd' });
  assert.deepEqual(jsonPatch(target, [{ op: 'replace', path: '', value: { x: 1 } }]), { x: 1 });
});

test('JSON patch: `test` of null refused a field that is not there, so that istiod never gave a ServiceEntry addresses', () => {
  const patch = [
    { op: 'test', path: '/status', value: null },
    { op: 'add', path: '/status', value: {} },
    { op: 'test', path: '/status/addresses', value: null },
    { op: 'add', path: '/status/addresses', value: [1] },
  ];
  assert.deepEqual(jsonPatch({ a: 1 }, patch), { a: 1, status: { addresses: [1] } });
  assert.deepEqual(jsonPatch({ a: 1, status: null }, patch), { a: 1, status: { addresses: [1] } });
  for (const held of [{ status: {} }, { status: { addresses: [2] } }])
    assert.throws(() => jsonPatch(held, patch), refused(422));
  // Nothing is tested below what is not there, nor behind the end of a list.
  assert.throws(() => jsonPatch({ a: 1 }, patch.slice(2)), refused(422));
  assert.throws(() => jsonPatch({ a: [1] }, [{ op: 'test', path: '/a/1', value: null }]), refused(422));
});

const refused = (code: number) => (error: unknown) =>
  error instanceof StatusError && error.body.code === code;

test('JSON patch: a failed test or a missing path is 422, a malformed patch 400', () => {
  assert.throws(() => jsonPatch({ a: 1 }, [{ op: 'test', path: '/a', value: 2 }]), refused(422));
  assert.throws(() => jsonPatch({ a: 1 }, [{ op: 'remove', path: '/b' }]), refused(422));
  for (const patch of [
    {},
    [{ op: 'jump', path: '/a' }],
    [{ op: 'add', path: 'a', value: 1 }],
    [{ op: 'add', path: '/a' }],
  ])
    assert.throws(() => jsonPatch({ a: 1 }, patch), refused(400));
  for (const path of ['/__proto__/x', '/constructor/prototype/x', '/a/__proto__'])
    assert.throws(() => jsonPatch({ a: {} }, [{ op: 'add', path, value: 1 }]), refused(400));
});
