// Rules of the forms that definitions in the field use; expected refusals follow Kubernetes' documentation of
// validation rules.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import fc from 'fast-check';
import type { StructuralSchema } from '../schema.ts';
import { loadCel } from './engine.ts';
import { checkRules, evaluateRules, hasRules, type ValidationRule } from './rules.ts';
import { escapedName } from './values.ts';

before(loadCel);

const INT: StructuralSchema = { type: 'integer' };
const TEXT: StructuralSchema = { type: 'string' };
const object = (
  properties: Record<string, StructuralSchema>,
  ...rules: ValidationRule[]
): StructuralSchema => ({
  type: 'object',
  properties,
  ...(rules.length === 0 ? {} : { 'x-kubernetes-validations': rules }),
});
const list = (items: StructuralSchema, extra: StructuralSchema = {}): StructuralSchema => ({
  type: 'array',
  items,
  ...extra,
});
const spec = (schema: StructuralSchema): StructuralSchema => object({ spec: schema });

function broken(schema: StructuralSchema, value: unknown, old?: unknown): string[] {
  const wrap = (each: unknown): Record<string, unknown> => ({
    apiVersion: 'x/v1',
    kind: 'X',
    metadata: { name: 'n' },
    spec: each,
  });
  return evaluateRules(spec(schema), wrap(value), old === undefined ? undefined : wrap(old)).map(
    ({ path, type, message }) => `${path} ${type} ${message}`,
  );
}

const passes = (schema: StructuralSchema, value: unknown, old?: unknown): void =>
  assert.deepEqual(broken(schema, value, old), []);

test('self, integers, has, messages', () => {
  const schema = object(
    { min: INT, max: INT, ratio: { type: 'number' } },
    { rule: '!has(self.min) || !has(self.max) || self.min <= self.max', message: 'min may not exceed max' },
    { rule: '!has(self.max) || self.max * 2 < 100', messageExpression: '"max is " + string(self.max)' },
    { rule: '!has(self.ratio) || self.ratio > 0.5' },
  );
  passes(schema, { min: 1, max: 2, ratio: 1 });
  passes(schema, {});
  assert.deepEqual(broken(schema, { min: 3, max: 2 }), ['spec Invalid "object": min may not exceed max']);
  assert.deepEqual(broken(schema, { max: 60 }), ['spec Invalid "object": max is 60']);
  assert.deepEqual(broken(schema, { ratio: 0.25 }), [
    'spec Invalid "object": failed rule: !has(self.ratio) || self.ratio > 0.5',
  ]);
});

test('reason and fieldPath say where and what kind', () => {
  const rule = {
    rule: 'has(self.name)',
    reason: 'FieldValueRequired',
    fieldPath: '.name',
    message: 'name it',
  };
  assert.deepEqual(broken(object({ name: TEXT }, rule), {}), ['spec.name Required name it']);
  const forbidden = {
    rule: '!has(self.name)',
    reason: 'FieldValueForbidden',
    fieldPath: '.name',
    message: 'no',
  };
  assert.deepEqual(broken(object({ name: TEXT }, forbidden), { name: 'x' }), ['spec.name Forbidden no']);
});

test('rules in lists and maps are held at each item, under its path', () => {
  const port = object({ port: INT }, { rule: 'self.port > 0', message: 'positive' });
  assert.deepEqual(broken(object({ ports: list(port) }), { ports: [{ port: 1 }, { port: 0 }] }), [
    'spec.ports[1] Invalid "object": positive',
  ]);
  const byName: StructuralSchema = { type: 'object', additionalProperties: port };
  assert.deepEqual(broken(byName, { a: { port: 0 } }), ['spec[a] Invalid "object": positive']);
});

test('loops over lists and maps, and has() on an indexed item', () => {
  const rules = [
    { rule: 'self.items.all(a, self.items.exists_one(b, b.name == a.name))', message: 'names repeat' },
    { rule: 'size(self.items) == 0 || has(self.items[0].name)', message: 'the first has a name' },
    { rule: 'self.labels.all(k, k.startsWith("x/") && self.labels[k] != "")', message: 'labels' },
    { rule: 'self.items.map(i, i.weight).sum() <= 100', message: 'too heavy' },
  ];
  const item = object({ name: TEXT, weight: INT });
  const labels: StructuralSchema = { type: 'object', additionalProperties: TEXT };
  const schema = object({ items: list(item), labels }, ...rules);
  passes(schema, {
    items: [
      { name: 'a', weight: 60 },
      { name: 'b', weight: 40 },
    ],
    labels: { 'x/a': '1' },
  });
  const twice = {
    items: [
      { name: 'a', weight: 60 },
      { name: 'a', weight: 41 },
    ],
    labels: { 'y/a': '1' },
  };
  assert.deepEqual(
    broken(schema, twice).map((line) => line.replace('spec Invalid "object": ', '')),
    ['names repeat', 'labels', 'too heavy'],
  );
});

test('transition rules speak of changes only, also inside lists with keys', () => {
  const rule = { rule: 'self == oldSelf', message: 'may not change' };
  const fixed: StructuralSchema = { ...TEXT, 'x-kubernetes-validations': [rule] };
  const keyed = list(object({ name: TEXT, mode: fixed }), {
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': ['name'],
  });
  const schema = object({ mode: fixed, items: keyed, loose: list(object({ mode: fixed })) });
  passes(schema, { mode: 'a', items: [{ name: 'x', mode: 'a' }] });
  passes(schema, { mode: 'a' }, {});
  passes(schema, { mode: 'a' }, { mode: 'a' });
  assert.deepEqual(broken(schema, { mode: 'b' }, { mode: 'a' }), [
    'spec.mode Invalid "string": may not change',
  ]);
  const items = (mode: string): unknown => ({
    items: [
      { name: 'new', mode: 'n' },
      { name: 'x', mode },
    ],
  });
  assert.deepEqual(broken(schema, items('b'), { items: [{ name: 'x', mode: 'a' }] }), [
    'spec.items[1].mode Invalid "string": may not change',
  ]);
  // Without keys nobody knows which item is which.
  passes(schema, { loose: [{ mode: 'b' }] }, { loose: [{ mode: 'a' }] });
});

test('what an update leaves as it was is not held against it; the rest is', () => {
  const port = object({ port: INT }, { rule: 'self.port > 10', message: 'above ten' });
  const schema = object({
    ports: list(port, { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['port'] }),
    note: TEXT,
  });
  const stored = { ports: [{ port: 5 }] };
  passes(schema, { ...stored, note: 'new' }, stored);
  passes(schema, { ports: [{ port: 20 }, { port: 5 }] }, stored);
  assert.deepEqual(broken(schema, { ports: [{ port: 5 }, { port: 6 }] }, stored), [
    'spec.ports[1] Invalid "object": above ten',
  ]);
  // A list without keys is one value: changing a part of it is changing all of it.
  const loose = object({ ports: list(port) });
  assert.equal(broken(loose, { ports: [{ port: 5 }, { port: 20 }] }, stored).length, 1);
});

test('the functions of Kubernetes, and escaped names', () => {
  const cases: [string, StructuralSchema, unknown, boolean][] = [
    ['isIP(self)', TEXT, '::1', true],
    ['isIP(self)', TEXT, '1.2.3', false],
    ['isCIDR(self)', TEXT, '10.0.0.0/8', true],
    ['isURL(self) && url(self).getScheme() in ["http", "https"]', TEXT, 'https://a.b/c', true],
    ['isURL(self) && url(self).getScheme() in ["http", "https"]', TEXT, 'ftp://a.b/c', false],
    ['url(self).getHostname() == "a.b" && url(self).getPort() == "8080"', TEXT, 'http://a.b:8080/', true],
    ['self.matches("^[a-z]+$")', TEXT, 'abc', true],
    ['self.find("[0-9]+") == "12"', TEXT, 'a12b', true],
    ['self.isSorted() && self.max() == 3', list(INT), [1, 2, 3], true],
    ['self.split(",").size() == 2 && self.lowerAscii() == "a,b"', TEXT, 'A,B', true],
    ['duration(self) >= duration("1s")', TEXT, '500ms', false],
    [
      'self > timestamp("2025-01-01T00:00:00Z")',
      { type: 'string', format: 'date-time' },
      '2026-01-01T00:00:00Z',
      true,
    ],
    [
      'self.__namespace__ == "a" && self.x__dash__y == 1',
      object({ namespace: TEXT, 'x-y': INT }),
      { namespace: 'a', 'x-y': 1 },
      true,
    ],
    ['type(self) == int ? self < 100 : self.endsWith("%")', { 'x-kubernetes-int-or-string': true }, 5, true],
    [
      'type(self) == int ? self < 100 : self.endsWith("%")',
      { 'x-kubernetes-int-or-string': true },
      '5',
      false,
    ],
  ];
  for (const [rule, schema, value, good] of cases) {
    const ruled = { ...schema, 'x-kubernetes-validations': [{ rule, message: 'no' }] };
    assert.deepEqual(checkRules(ruled, 's'), [], rule);
    assert.equal(broken(object({ v: ruled }), { v: value }).length, good ? 0 : 1, rule);
  }
  assert.equal(escapedName('a/b.c__d'), 'a__slash__b__dot__c__underscores__d');
  assert.equal(escapedName('1a'), undefined);
});

test('the root sees its name; what the schema does not name is not there', () => {
  const schema: StructuralSchema = {
    ...spec({ type: 'object', 'x-kubernetes-preserve-unknown-fields': true, properties: { a: INT } }),
    'x-kubernetes-validations': [{ rule: 'self.metadata.name == "default"', message: 'the name is default' }],
  };
  const wrap = (name: string): Record<string, unknown> => ({
    apiVersion: 'x/v1',
    kind: 'X',
    metadata: { name, labels: {} },
  });
  assert.deepEqual(evaluateRules(schema, wrap('default'), undefined), []);
  assert.match(evaluateRules(schema, wrap('other'), undefined)[0]!.message, /the name is default/);
  const rule = { rule: '!has(self.b)', message: 'seen' };
  passes(
    {
      type: 'object',
      properties: { a: INT },
      'x-kubernetes-preserve-unknown-fields': true,
      'x-kubernetes-validations': [rule],
    },
    { b: 1 },
  );
});

test('a rule that fails to evaluate refuses the object', () => {
  const [line] = broken(object({ a: INT, l: list(INT) }, { rule: 'self.l[5] == 1' }), { l: [] });
  assert.match(line ?? '', /rule evaluation failed/);
  // An absent field is an error, unless the rest decides: as CEL has it.
  passes(object({ a: INT }, { rule: 'self.a == 1 || true' }), {});
});

test('rules that cannot be run are refused with the definition', () => {
  const check = (rule: ValidationRule): string[] =>
    checkRules(object({}, rule), 's').map(({ path, message }) => `${path}: ${message}`);
  assert.match(
    check({ rule: 'self.a +' })[0]!,
    /^s\.x-kubernetes-validations\[0\]\.rule: .*compilation failed/,
  );
  assert.match(
    check({ rule: 'quantity(self.a).isGreaterThan(1)' })[0]!,
    /undeclared reference to 'isGreaterThan'/,
  );
  assert.match(check({ rule: 'request.user == 1' })[0]!, /undeclared reference to 'request'/);
  assert.match(check({ rule: 'true', messageExpression: 'nope()' })[0]!, /messageExpression: .*undeclared/);
  assert.match(check({ rule: 'true', optionalOldSelf: true })[0]!, /optionalOldSelf/);
  assert.deepEqual(
    check({ rule: 'self.all(k, k == "a") && [1, 2].exists(x, x == 1) && {"a": 1}.a == 1' }),
    [],
  );
  assert.ok(
    hasRules(object({ deep: list({ type: 'object', additionalProperties: object({}, { rule: 'true' }) }) })),
  );
  assert.ok(!hasRules(object({ deep: list(TEXT) })));
});

test('what rules may cost on one object is bounded, and giving up is a refusal', () => {
  const rule = { rule: 'self.all(a, self.all(b, self.all(c, a + b + c >= 0)))' };
  const schema = object({ l: { ...list(INT), 'x-kubernetes-validations': [rule] } });
  passes(schema, { l: Array.from({ length: 20 }, (_, index) => index) });
  const lines = broken(schema, { l: Array.from({ length: 2_000 }, (_, index) => index) });
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /cost too much/);
});

test('property: no value makes the evaluation throw, and the value is not changed by it', () => {
  const schema = object(
    { a: INT, l: list(object({ n: TEXT }, { rule: 'self.n != ""' })) },
    { rule: 'self.a > 1 || self.l.exists(x, x.n.size() > 3)' },
  );
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const before = JSON.stringify(value);
      broken(schema, value);
      assert.equal(JSON.stringify(value), before);
    }),
  );
});
