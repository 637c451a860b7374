// Rules of server-side apply one by one, and what must hold whatever is applied. Whole scripts: apply-golden.test.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Applier, applyObject } from './apply.ts';
import { pathTexts } from './field-path.ts';
import type { FieldSet } from './field-set.ts';
import type { Kind } from './kind.ts';
import { mergeTypeOf } from './merge-type.ts';
import type { ApiObject, JsonObject } from './object.ts';
import { entriesOf, ownersAfterUpdate, ownersFrom } from './owners.ts';
import { StatusError } from './status.ts';
import { makeRig, refusalOf } from './test-rig.ts';

const rig = makeRig();

function apply(
  live: ApiObject | undefined,
  content: JsonObject,
  manager = 'me',
  how: { readonly plural?: string; readonly force?: boolean } & Partial<Applier> = {},
): ApiObject {
  const kind = rig.kind(how.plural ?? 'services', 'v1');
  const applied = { apiVersion: kind.apiVersion, kind: kind.kind, metadata: { name: 'x' }, ...content };
  return applyObject(kind, live, applied as ApiObject, {
    manager,
    apiVersion: kind.apiVersion,
    subresource: '',
    nowMs: 0,
    force: false,
    owns: (fields) => fields,
    ...how,
  });
}

const fieldsOfManager = (object: ApiObject, manager: string): string[] =>
  (object.metadata.managedFields ?? [])
    .filter((entry) => entry.manager === manager)
    .flatMap((entry) => pathTexts(entry.fieldsV1 as FieldSet));

test('apply: what a manager leaves out goes; what nobody applied stays', () => {
  const one = apply(undefined, { spec: { type: 'NodePort', selector: { a: 'b' } } });
  const live = { ...one, spec: { ...(one.spec as JsonObject), clusterIP: '10.96.1.1' } };
  const next = apply(live, { spec: { selector: { a: 'b' } } });
  assert.deepEqual(next.spec, { clusterIP: '10.96.1.1', selector: { a: 'b' } });
});

test('apply: a shared value has two owners, another value is a conflict, force takes over', () => {
  const one = apply(undefined, { spec: { type: 'NodePort' } }, 'a');
  const two = apply(one, { spec: { type: 'NodePort' } }, 'b');
  assert.deepEqual([fieldsOfManager(two, 'a'), fieldsOfManager(two, 'b')], [['.spec.type'], ['.spec.type']]);
  const refused = refusalOf(() => apply(two, { spec: { type: 'ClusterIP' } }, 'c'));
  assert.equal(refused.body.code, 409);
  assert.equal(
    refused.message,
    'Apply failed with 2 conflicts: conflicts with "a":\n- .spec.type\nconflicts with "b":\n- .spec.type',
  );
  assert.deepEqual(refused.body.details?.causes?.[0], {
    reason: 'FieldManagerConflict',
    message: 'conflict with "a"',
    field: '.spec.type',
  });
  const forced = apply(two, { spec: { type: 'ClusterIP' } }, 'c', { force: true });
  assert.deepEqual(
    (forced.metadata.managedFields ?? []).map((entry) => entry.manager),
    ['c'],
  );
  const gone = apply(two, { spec: {} }, 'a');
  assert.deepEqual((gone.spec as JsonObject).type, 'NodePort', 'the other owner holds it');
});

test('apply: ports are told apart by a protocol that nobody wrote', () => {
  const one = apply(undefined, { spec: { ports: [{ port: 80 }] } });
  assert.deepEqual(one.metadata.managedFields?.[0]?.fieldsV1, {
    'f:spec': { 'f:ports': { 'k:{"port":80,"protocol":"TCP"}': { '.': {}, 'f:port': {} } } },
  });
  const refused = refusalOf(() =>
    apply(
      apply(one, { spec: { ports: [{ port: 80, name: 'http' }] } }, 'a'),
      { spec: { ports: [{ port: 80, protocol: 'TCP', name: 'web' }] } },
      'b',
    ),
  );
  assert.equal(
    refused.message,
    'Apply failed with 1 conflict: conflict with "a": .spec.ports[port=80,protocol="TCP"].name',
  );
});

test("apply: fields that are not the kind's, values of the wrong form and doubled items are refused with their path", () => {
  const message = (content: JsonObject): string => refusalOf(() => apply(undefined, content)).message;
  const prefix = 'failed to create typed patch object (/x; /v1, Kind=Service): ';
  assert.equal(message({ spec: { prots: [] } }), `${prefix}.spec.prots: field not declared in schema`);
  assert.equal(
    message({ spec: { ports: [{ port: 'x' }] } }),
    `${prefix}.spec.ports[port="x",protocol="TCP"].port: expected numeric (int or float), got string`,
  );
  assert.equal(
    message({ spec: { ports: [{ port: 1 }, { port: 1, protocol: 'TCP' }] } }),
    `${prefix}.spec.ports: duplicate entries for key [port=1,protocol="TCP"]`,
  );
  assert.equal(
    message({ spec: { selector: [], ports: {} } }),
    `${prefix}errors:\n  .spec.selector: expected map, got []\n  .spec.ports: expected list, got {}`,
  );
});

test('apply: ownership itself cannot be applied', () => {
  const refused = refusalOf(() => apply(undefined, { metadata: { name: 'x', managedFields: [] } }));
  assert.equal(refused.message, 'metadata.managedFields must be nil');
});

test('apply: conditions of a policy: two writers, each with its own', () => {
  const condition = (type: string, status: string): JsonObject => ({
    status: { conditions: [{ type, status }] },
  });
  const how = { plural: 'authorizationpolicies', subresource: 'status' };
  const one = apply(undefined, condition('ZtunnelAccepted', 'True'), 'ztunnel', how);
  const two = apply(one, condition('WaypointAccepted', 'False'), 'waypoint', how);
  const three = apply(two, { status: { conditions: [] } }, 'ztunnel', how);
  assert.deepEqual(three.status, { conditions: [{ type: 'WaypointAccepted', status: 'False' }] });
  assert.match(
    refusalOf(() => apply(two, condition('WaypointAccepted', 'True'), 'other', how)).message,
    /conflict with "waypoint" with subresource "status": \.status\.conditions\[type="WaypointAccepted"\]\.status/,
  );
});

test('apply: kubectl takes over what its client-side apply wrote, and keeps the annotation true', () => {
  const annotation = 'kubectl.kubernetes.io/last-applied-configuration';
  const written = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'x' }, spec: { type: 'NodePort' } };
  const live: ApiObject = {
    ...written,
    metadata: {
      name: 'x',
      annotations: { [annotation]: JSON.stringify(written) },
      managedFields: [
        {
          manager: 'kubectl-client-side-apply',
          operation: 'Update',
          apiVersion: 'v1',
          fieldsType: 'FieldsV1',
          fieldsV1: { 'f:spec': { 'f:type': {} } },
        },
      ],
    },
  };
  assert.match(
    refusalOf(() => apply(live, { spec: { type: 'ClusterIP' } })).message,
    /using v1: \.spec\.type$/,
  );
  const next = apply(live, { spec: { type: 'ClusterIP' } }, 'kubectl');
  assert.deepEqual(next.spec, { type: 'ClusterIP' });
  assert.equal(
    next.metadata.annotations?.[annotation],
    '{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"},"spec":{"type":"ClusterIP"}}\n',
  );
});

test('apply: a list that became one whole by a new definition has no owners of items any more', () => {
  const kindWith = (listType: 'map' | 'atomic'): Kind => ({
    ...rig.kind('authorizationpolicies', 'v1'),
    schema: {
      type: 'object',
      properties: {
        spec: {
          type: 'object',
          properties: {
            hosts: {
              type: 'array',
              'x-kubernetes-list-type': listType,
              ...(listType === 'map' ? { 'x-kubernetes-list-map-keys': ['name'] } : {}),
              items: { type: 'object', properties: { name: { type: 'string' } } },
            },
          },
        },
      },
    },
  });
  const applied = (...names: string[]): ApiObject => {
    const { apiVersion, kind } = kindWith('map');
    return { apiVersion, kind, metadata: { name: 'x' }, spec: { hosts: names.map((name) => ({ name })) } };
  };
  const as = (manager: string): Applier => ({
    manager,
    apiVersion: kindWith('map').apiVersion,
    subresource: '',
    nowMs: 0,
    force: false,
    owns: (fields) => fields,
  });
  const live = applyObject(kindWith('map'), undefined, applied('a'), as('one'));
  assert.deepEqual(fieldsOfManager(live, 'one'), ['.spec.hosts[name="a"]', '.spec.hosts[name="a"].name']);
  assert.match(
    refusalOf(() => applyObject(kindWith('atomic'), live, applied('b'), as('two'))).message,
    /conflict with "one": \.spec\.hosts$/,
  );
});

test('apply: an embedded object has the envelope of every object', () => {
  const kind: Kind = {
    ...rig.kind('authorizationpolicies', 'v1'),
    schema: {
      type: 'object',
      properties: { template: { type: 'object', 'x-kubernetes-embedded-resource': true, properties: {} } },
    },
  };
  const applied = {
    apiVersion: kind.apiVersion,
    kind: kind.kind,
    metadata: { name: 'x' },
    template: { apiVersion: 'v1', kind: 'Pod', metadata: { labels: { a: 'b' } } },
  };
  const live = applyObject(kind, undefined, applied, {
    manager: 'me',
    apiVersion: kind.apiVersion,
    subresource: '',
    nowMs: 0,
    force: false,
    owns: (fields) => fields,
  });
  assert.deepEqual(fieldsOfManager(live, 'me'), [
    '.template.apiVersion',
    '.template.kind',
    '.template.metadata.labels.a',
  ]);
});

test('apply: whatever is sent, it is applied or refused with a sentence', () => {
  const names = fc.constantFrom(
    'ports',
    'selector',
    'externalIPs',
    'type',
    'port',
    'name',
    'constructor',
    '.',
  );
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 5 },
      fc.constantFrom<unknown>(null, true, 5, 'x', [], {}),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(names, tie('value'), { maxKeys: 4 }),
    ),
  }));
  fc.assert(
    fc.property(value, value, (first, second) => {
      let live: ApiObject | undefined;
      for (const spec of [first, second])
        try {
          live = apply(live, { spec }, 'me', { force: true });
        } catch (error) {
          assert.ok(error instanceof StatusError, String(error));
          assert.equal(error.body.code, 400);
        }
      // A stored object may be of any form; its owners are found all the same.
      const writer = {
        manager: 'w',
        apiVersion: 'v1',
        subresource: '',
        nowMs: 0,
        owns: (fields: FieldSet) => fields,
      };
      const type = mergeTypeOf(rig.kind('services'));
      const owners = ownersAfterUpdate(type, { spec: first }, { spec: second }, new Map(), writer);
      assert.deepEqual(ownersFrom(JSON.parse(JSON.stringify(entriesOf(owners)))), owners);
    }),
    { numRuns: 1000 },
  );
});

const content = fc.record({
  metadata: fc.record({
    name: fc.constant('x'),
    labels: fc.dictionary(fc.constantFrom('p', 'q', 'constructor'), fc.constantFrom('1', '2')),
  }),
  spec: fc.record(
    {
      type: fc.constantFrom('ClusterIP', 'NodePort'),
      selector: fc.dictionary(fc.constantFrom('a', 'b'), fc.constantFrom('1', '2'), { minKeys: 1 }),
      externalIPs: fc.array(fc.constantFrom('1.1.1.1', '2.2.2.2', '3.3.3.3'), { minLength: 1, maxLength: 3 }),
      ports: fc.uniqueArray(
        fc.record(
          {
            port: fc.integer({ min: 1, max: 4 }),
            name: fc.constantFrom('m', 'n'),
            targetPort: fc.constantFrom(1, 'w'),
          },
          { requiredKeys: ['port'] },
        ),
        { selector: ({ port }) => port },
      ),
    },
    { requiredKeys: [] },
  ),
});
type Content = typeof content extends fc.Arbitrary<infer T> ? T : never;

const portsOf = (object: ApiObject): JsonObject[] =>
  ((object.spec as JsonObject)?.ports ?? []) as JsonObject[];

/** The values of the leaves, by path. */
function leaves(value: unknown, path = ''): Map<string, unknown> {
  const found = new Map<string, unknown>();
  const into = (part: unknown, at: string): void => {
    for (const [key, each] of leaves(part, at)) found.set(key, each);
  };
  if (path.endsWith('.ports'))
    for (const port of value as JsonObject[]) into(port, `${path}[port=${port.port},protocol="TCP"]`);
  else if (typeof value === 'object' && value !== null && !/\.(selector|externalIPs)$/.test(path))
    for (const [name, each] of Object.entries(value)) into(each, `${path}.${name}`);
  else found.set(path, value);
  return found;
}

const contentOf = ({ metadata: { labels }, spec }: ApiObject): JsonObject => ({
  metadata: { ...(labels === undefined ? {} : { labels }) },
  ...(spec === undefined ? {} : { spec }),
});

test('properties of apply: twice is once', () => {
  fc.assert(
    fc.property(content, content, (first, second) => {
      const base = apply(undefined, first as Content, 'other');
      const once = apply(base, second, 'me', { force: true });
      assert.deepEqual(apply(once, second, 'me', { nowMs: 99_000 }), once);
    }),
  );
});

test('properties of apply: an only applier leaves nothing behind', () => {
  fc.assert(
    fc.property(content, content, (first, second) => {
      const changed = apply(apply(undefined, first), second);
      const fresh = apply(undefined, second);
      assert.deepEqual(changed.metadata.managedFields, fresh.metadata.managedFields);
      const owned = new Set(fieldsOfManager(changed, 'me'));
      for (const path of leaves(contentOf(changed)).keys())
        if (path !== '.metadata.labels' && path !== '.spec')
          assert.ok(owned.has(path), `${path} has no owner`);
    }),
  );
});

test('properties of apply: force never conflicts, and what it sets it owns', () => {
  fc.assert(
    fc.property(content, content, (first, second) => {
      const next = apply(apply(undefined, first, 'a'), second, 'b', { force: true });
      const wanted = leaves(contentOf(apply(undefined, second)));
      const found = leaves(contentOf(next));
      for (const [path, value] of wanted)
        if (!/^\.(spec|metadata\.labels)$/.test(path)) assert.deepEqual(found.get(path), value, path);
    }),
  );
});

test('properties of apply: without force, a value that only another owns never changes', () => {
  fc.assert(
    fc.property(content, content, content, (first, second, third) => {
      const base = apply(undefined, first, 'b');
      const mine = apply(base, second, 'a', { force: true });
      const theirs = new Set(
        fieldsOfManager(mine, 'b').filter((path) => !fieldsOfManager(mine, 'a').includes(path)),
      );
      let next: ApiObject;
      try {
        next = apply(mine, third, 'a');
      } catch (error) {
        if (!(error instanceof StatusError)) throw error;
        assert.equal(error.body.code, 409);
        return;
      }
      const before = leaves(contentOf(mine));
      const after = leaves(contentOf(next));
      // A field of an item goes with the item, which belongs to whoever owns the item itself.
      for (const [path, value] of before)
        if (theirs.has(path) && !path.includes('[')) assert.deepEqual(after.get(path), value, path);
    }),
  );
});

test('properties of apply: lists without keys are replaced whole, keyed lists keep their order', () => {
  fc.assert(
    fc.property(content, content, (first, second) => {
      const base = apply(undefined, first, 'a');
      const next = apply(base, second, 'b', { force: true });
      if (second.spec.externalIPs !== undefined)
        assert.deepEqual((next.spec as JsonObject).externalIPs, second.spec.externalIPs);
      const order = portsOf(next).map(({ port }) => port);
      const wanted = (second.spec.ports ?? []).map(({ port }) => port);
      assert.deepEqual(
        order.filter((port) => wanted.includes(port as number)),
        wanted,
        'as the configuration says',
      );
      const rest = portsOf(base)
        .map(({ port }) => port)
        .filter((port) => !wanted.includes(port as number));
      assert.deepEqual(
        order.filter((port) => !wanted.includes(port as number)),
        rest,
        'as it was',
      );
    }),
  );
});
