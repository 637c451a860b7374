import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyObject } from './apply.ts';
import type { ApiObject, JsonObject } from './object.ts';
import { makeRig } from './test-rig.ts';

const rig = makeRig();
const apply = (
  live: ApiObject | undefined,
  content: JsonObject,
  manager = 'a',
  plural = 'services',
  subresource = '',
): ApiObject => {
  const kind = rig.kind(plural);
  const object = { apiVersion: kind.apiVersion, kind: kind.kind, metadata: { name: 'x' }, ...content };
  return applyObject(kind, live, object, { manager, subresource, nowMs: 0 });
};
const setOf = (object: ApiObject, manager: string): unknown =>
  object.metadata.managedFields?.find((entry) => entry.manager === manager)?.fieldsV1;

test('the fields applied are kept as FieldsV1; a missing protocol counts as TCP but is not owned', () => {
  const object = apply(undefined, { spec: { ports: [{ port: 80 }], selector: { app: 'web' } } });
  assert.deepEqual(setOf(object, 'a'), {
    'f:spec': {
      'f:ports': { 'k:{"port":80,"protocol":"TCP"}': { '.': {}, 'f:port': {} } },
      'f:selector': { 'f:app': {} },
    },
  });
});

test('what a manager leaves out goes, unless another applies it too', () => {
  const one = apply(undefined, { metadata: { name: 'x', labels: { p: '1', q: '1' } } });
  const two = apply(one, { metadata: { name: 'x', labels: { q: '1' } } }, 'b');
  const three = apply(two, { spec: { type: 'ClusterIP' } });
  assert.deepEqual(three.metadata.labels, { q: '1' });
  const four = apply(three, {}, 'b');
  assert.equal(four.metadata.labels, undefined);
  assert.equal(setOf(four, 'b'), undefined, 'a manager of nothing is not listed');
});

test('fields nobody applied stay', () => {
  const live = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'x' },
    spec: { clusterIP: '10.96.1.1' },
  };
  const next = apply(live, { spec: { selector: { a: 'b' } } });
  assert.deepEqual(next.spec, { clusterIP: '10.96.1.1', selector: { a: 'b' } });
});

test('items of keyed lists are merged, kept in order, and removed by who applied them', () => {
  const live = apply(
    undefined,
    {
      spec: {
        ports: [
          { port: 1, name: 'a' },
          { port: 2, name: 'b' },
        ],
      },
    },
    'other',
  );
  const next = apply(live, {
    spec: {
      ports: [
        { port: 2, targetPort: 20 },
        { port: 3, name: 'c' },
      ],
    },
  });
  const ports = (object: ApiObject): unknown => (object.spec as JsonObject).ports;
  assert.deepEqual(ports(next), [
    { port: 1, name: 'a' },
    { port: 2, name: 'b', targetPort: 20 },
    { port: 3, name: 'c' },
  ]);
  const gone = apply(next, { spec: { ports: [{ port: 2 }] } });
  assert.deepEqual(ports(gone), [
    { port: 1, name: 'a' },
    { port: 2, name: 'b' },
  ]);
});

test('conditions of a policy: two writers, each with its own', () => {
  const condition = (type: string, status: string): JsonObject => ({
    status: { conditions: [{ type, status }] },
  });
  const plural = 'authorizationpolicies';
  const one = apply(undefined, condition('ZtunnelAccepted', 'True'), 'ztunnel', plural, 'status');
  const two = apply(one, condition('WaypointAccepted', 'False'), 'waypoint', plural, 'status');
  const three = apply(two, { status: { conditions: [] } }, 'ztunnel', plural, 'status');
  assert.deepEqual(three.status, { conditions: [{ type: 'WaypointAccepted', status: 'False' }] });
});

test('properties: twice is once; an only applier leaves nothing behind', () => {
  const content = fc.record({
    metadata: fc.record({
      name: fc.constant('x'),
      labels: fc.dictionary(fc.constantFrom('p', 'q', 'constructor'), fc.constantFrom('1', '2')),
    }),
    spec: fc.record(
      {
        type: fc.constantFrom('ClusterIP', 'NodePort'),
        selector: fc.dictionary(fc.constantFrom('a', 'b'), fc.constantFrom('1', '2'), { minKeys: 1 }),
        ports: fc.uniqueArray(
          fc.record({ port: fc.integer({ min: 1, max: 4 }), name: fc.constantFrom('m', 'n') }),
          {
            selector: ({ port }) => port,
          },
        ),
      },
      { requiredKeys: [] },
    ),
  });
  fc.assert(
    fc.property(content, content, (first, second) => {
      const once = apply(undefined, first);
      assert.deepEqual(apply(once, first), once);
      const changed = apply(once, second);
      const fresh = apply(undefined, second);
      // Emptied containers may stay where the second configuration names them empty.
      assert.deepEqual(changed.metadata.managedFields, fresh.metadata.managedFields);
      assert.deepEqual((changed.spec as JsonObject).selector, (fresh.spec as JsonObject).selector);
      assert.deepEqual((changed.spec as JsonObject).type, (fresh.spec as JsonObject).type);
      const byPort = (object: ApiObject): unknown =>
        [...(((object.spec as JsonObject).ports as { port: number }[] | undefined) ?? [])].sort(
          (a, b) => a.port - b.port,
        );
      assert.deepEqual(byPort(changed), byPort(fresh));
    }),
    { numRuns: 200 },
  );
});
