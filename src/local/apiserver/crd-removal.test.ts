// Definitions: their end in order, their names, selectable fields, rules that refuse.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { loadCel } from './cel/engine.ts';
import { finishDefinitions } from './crd-removal.ts';
import { type ApiObject, at, type JsonObject } from './object.ts';
import { selectorFilter } from './selectors.ts';
import { makeRig, type Rig, refusalOf } from './test-rig.ts';

before(loadCel);

const CRD = 'customresourcedefinitions';

const definition = (names: JsonObject, version: JsonObject = {}, spec: JsonObject = {}): JsonObject => ({
  metadata: { name: `${String(names.plural)}.example.io` },
  spec: {
    group: 'example.io',
    scope: 'Namespaced',
    names,
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: SPEC } } },
        ...version,
      },
    ],
    ...spec,
  },
});
const SPEC: JsonObject = {
  type: 'object',
  properties: {
    colour: { type: 'string' },
    size: { type: 'integer' },
    sides: { type: 'array', items: { type: 'integer' } },
  },
};
const BOXES = { plural: 'boxes', kind: 'Box' };
const CLEANUP = 'customresourcecleanup.apiextensions.k8s.io';

const conditions = (object: ApiObject | undefined): string[] => {
  const found = at(object, 'status', 'conditions') as { type: string; status: string; reason: string }[];
  return found.map(({ type, status, reason }) => `${type} ${status} ${reason}`);
};

const release = (rig: Rig, name: string): void => {
  const held = structuredClone(rig.get('boxes', name)!) as ApiObject;
  delete held.metadata.finalizers;
  rig.update('boxes', held);
};

test('the end of a definition waits for the finalizers of its objects; meanwhile it is served and takes nothing new', () => {
  const rig = makeRig();
  rig.create(CRD, definition(BOXES));
  rig.create('boxes', { metadata: { name: 'free' } });
  rig.create('boxes', { metadata: { name: 'held', finalizers: ['example.io/hold'] } });
  rig.create('boxes', { metadata: { name: 'held-too', finalizers: ['example.io/hold'] } });
  const result = rig.remove(CRD, 'boxes.example.io');
  assert.equal(result.kind, 'terminating');
  const crd = rig.get(CRD, 'boxes.example.io')!;
  assert.deepEqual(crd.metadata.finalizers, [CLEANUP]);
  assert.ok(conditions(crd).includes('Terminating True InstanceDeletionInProgress'));
  assert.equal(rig.get('boxes', 'free'), undefined);
  assert.ok(rig.get('boxes', 'held')!.metadata.deletionTimestamp);
  const refused = refusalOf(() => rig.create('boxes', { metadata: { name: 'new' } })).body;
  assert.equal(refused.code, 405);
  assert.match(refused.message ?? '', /create not allowed while custom resource definition is terminating/);
  assert.equal(rig.remove(CRD, 'boxes.example.io').kind, 'terminating', 'asking twice is asking once');
  release(rig, 'held');
  assert.ok(rig.get(CRD, 'boxes.example.io'));
  release(rig, 'held-too');
  assert.equal(rig.get(CRD, 'boxes.example.io'), undefined);
  assert.equal(rig.registry.find('example.io', 'v1', 'boxes'), undefined);
});

test('without objects, or with free ones, a definition goes at once; a dry run takes nothing', () => {
  const rig = makeRig();
  rig.create(CRD, definition(BOXES));
  rig.create('boxes', { metadata: { name: 'free' } });
  rig.remove(CRD, 'boxes.example.io', { dryRun: true });
  assert.ok(rig.get('boxes', 'free'));
  const boxes = rig.kind('boxes');
  const told: string[] = [];
  rig.store.subscribe(boxes.resource, ({ type }) => told.push(type));
  assert.equal(rig.remove(CRD, 'boxes.example.io').kind, 'gone');
  assert.deepEqual(told, ['DELETED']);
  assert.equal(rig.get(CRD, 'boxes.example.io'), undefined);
});

test('a finalizer of the definition itself holds it after its objects have gone', () => {
  const rig = makeRig();
  const crd = definition(BOXES);
  rig.create(CRD, { ...crd, metadata: { ...(crd.metadata as JsonObject), finalizers: ['example.io/crd'] } });
  rig.create('boxes', { metadata: { name: 'free' } });
  rig.remove(CRD, 'boxes.example.io');
  assert.deepEqual(rig.get(CRD, 'boxes.example.io')!.metadata.finalizers, ['example.io/crd']);
  assert.equal(rig.store.list(rig.kind('boxes').resource).length, 0);
});

test('a kill between the last object and its definition is made good at the next start', () => {
  const rig = makeRig();
  rig.create(CRD, definition(BOXES));
  rig.create('boxes', { metadata: { name: 'held', finalizers: ['example.io/hold'] } });
  rig.remove(CRD, 'boxes.example.io');
  rig.store.remove(rig.kind('boxes').resource, 'default', 'held');
  assert.ok(rig.get(CRD, 'boxes.example.io'));
  finishDefinitions(rig);
  assert.equal(rig.get(CRD, 'boxes.example.io'), undefined);
});

test('two definitions of one group do not share a name: the second waits until it is free', () => {
  const rig = makeRig();
  rig.create(CRD, definition({ ...BOXES, shortNames: ['bx'] }));
  const rival = rig.create(CRD, definition({ plural: 'bottles', kind: 'Bottle', shortNames: ['bx'] }));
  assert.deepEqual(conditions(rival), [
    'NamesAccepted False ShortNamesConflict',
    'Established False NotAccepted',
  ]);
  assert.equal(rig.registry.find('example.io', 'v1', 'bottles'), undefined);
  assert.ok(rig.registry.find('example.io', 'v1', 'boxes'));
  rig.remove(CRD, 'boxes.example.io');
  assert.deepEqual(conditions(rig.get(CRD, 'bottles.example.io')), [
    'NamesAccepted True NoConflicts',
    'Established True InitialNamesAccepted',
  ]);
  assert.ok(rig.registry.find('example.io', 'v1', 'bottles'));
});

test('selectable fields', () => {
  const rig = makeRig();
  const selectableFields = [{ jsonPath: '.spec.colour' }, { jsonPath: '.spec.size' }];
  rig.create(CRD, definition(BOXES, { selectableFields }));
  const red = rig.create('boxes', { metadata: { name: 'r' }, spec: { colour: 'red', size: 2 } });
  const matches = (fieldSelector: string): boolean =>
    selectorFilter(rig.kind('boxes'), new URLSearchParams({ fieldSelector }))(red);
  assert.ok(matches('spec.colour=red,spec.size=2'));
  assert.ok(!matches('spec.colour!=red'));
  assert.match(refusalOf(() => matches('spec.sides=1')).body.message ?? '', /"spec\.colour", "spec\.size"/);
  for (const [jsonPath, words] of [
    ['.spec.sides', /type string, boolean or integer/],
    ['.spec.nothing', /type string, boolean or integer/],
    ['.metadata.name', /type string, boolean or integer/],
    ['.spec[0]', /simple path/],
  ] as const)
    assert.match(
      refusalOf(() => makeRig().create(CRD, definition(BOXES, { selectableFields: [{ jsonPath }] }))).body
        .message ?? '',
      words,
    );
});

test('CEL: a definition whose rule does not compile is refused, an object that breaks one too', () => {
  const ruled = (rule: string): JsonObject =>
    definition(BOXES, {
      schema: {
        openAPIV3Schema: {
          type: 'object',
          properties: { spec: { ...SPEC, 'x-kubernetes-validations': [{ rule, message: 'not like that' }] } },
        },
      },
    });
  const rig = makeRig();
  assert.match(
    refusalOf(() => rig.create(CRD, ruled('self.size <'))).body.message ?? '',
    /spec\.versions\[0\]\.schema\.openAPIV3Schema\.properties\[spec\]\.x-kubernetes-validations\[0\]\.rule: .*compilation failed/,
  );
  rig.create(CRD, ruled('!has(oldSelf.size) || self.size >= oldSelf.size'));
  const box = rig.create('boxes', { metadata: { name: 'b' }, spec: { size: 2 } });
  const smaller = { ...box, spec: { size: 1 } };
  const body = refusalOf(() => rig.update('boxes', smaller)).body;
  assert.equal(body.code, 422);
  assert.match(
    body.message ?? '',
    /Box\.example\.io "b" is invalid: spec: Invalid value: "object": not like that/,
  );
  rig.update('boxes', { ...box, spec: { size: 3 } });
});
