import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from './object.ts';
import type { StructuralSchema } from './schema.ts';
import { builtInSchema } from './schema-bundle.ts';
import { StatusError } from './status.ts';
import { strategicMerge } from './strategic.ts';

const GROUPS: Readonly<Record<string, string>> = { Deployment: 'apps', EndpointSlice: 'discovery.k8s.io' };
const schemaOf = (kind: string): StructuralSchema => builtInSchema(GROUPS[kind] ?? '', 'v1', kind)!;

const pod = (containers: JsonObject[], more: JsonObject = {}): JsonObject => ({
  spec: { containers, ...more },
});
const web = { name: 'web', image: 'a', env: [{ name: 'A', value: '1' }], ports: [{ containerPort: 80 }] };
const log = { name: 'log', image: 'l' };

const CASES: readonly (readonly [
  what: string,
  kind: string,
  target: JsonObject,
  patch: JsonObject,
  result: JsonObject,
])[] = [
  [
    'items of a keyed list are merged by key',
    'Pod',
    pod([web, log]),
    pod([{ name: 'web', image: 'b' }]),
    pod([{ ...web, image: 'b' }, log]),
  ],
  ['a new key comes first', 'Pod', pod([web]), pod([log]), pod([log, web])],
  [
    'lists inside items merge too',
    'Pod',
    pod([web]),
    pod([{ name: 'web', env: [{ name: 'B', value: '2' }] }]),
    pod([{ ...web, env: [{ name: 'B', value: '2' }, ...web.env] }]),
  ],
  [
    '$patch: delete removes one item',
    'Pod',
    pod([web, log]),
    pod([{ name: 'log', $patch: 'delete' }]),
    pod([web]),
  ],
  [
    '$patch: replace replaces the list',
    'Pod',
    pod([web, log]),
    pod([{ $patch: 'replace' }, { name: 'new', image: 'n' }]),
    pod([{ name: 'new', image: 'n' }]),
  ],
  [
    '$patch: replace replaces an object',
    'Pod',
    { spec: { a: 1, b: 2 } },
    { spec: { $patch: 'replace', c: 3 } },
    { spec: { c: 3 } },
  ],
  ['null removes a field', 'Pod', { spec: { a: 1, b: 2 } }, { spec: { a: null } }, { spec: { b: 2 } }],
  [
    'a list without a key is replaced',
    'Pod',
    pod([], { tolerations: [{ key: 'a' }] }),
    pod([], { tolerations: [{ key: 'b' }] }),
    pod([], { tolerations: [{ key: 'b' }] }),
  ],
  [
    'plain lists are replaced',
    'Pod',
    pod([{ name: 'w', args: ['a'] }]),
    pod([{ name: 'w', args: ['b', 'c'] }]),
    pod([{ name: 'w', args: ['b', 'c'] }]),
  ],
  [
    'finalizers are a set',
    'Pod',
    { metadata: { finalizers: ['a'] } },
    { metadata: { finalizers: ['b', 'a'] } },
    { metadata: { finalizers: ['b', 'a'] } },
  ],
  [
    '$deleteFromPrimitiveList',
    'Pod',
    { metadata: { finalizers: ['a', 'b'] } },
    { metadata: { '$deleteFromPrimitiveList/finalizers': ['a'] } },
    { metadata: { finalizers: ['b'] } },
  ],
  [
    '$setElementOrder orders what it names',
    'Pod',
    pod([web, log]),
    { spec: { '$setElementOrder/containers': [{ name: 'log' }, { name: 'web' }] } },
    pod([log, web]),
  ],
  [
    '$retainKeys drops the others',
    'Deployment',
    { spec: { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } } } },
    { spec: { strategy: { $retainKeys: ['type'], type: 'Recreate' } } },
    { spec: { strategy: { type: 'Recreate' } } },
  ],
  [
    'service ports merge by port',
    'Service',
    { spec: { ports: [{ port: 80, name: 'http' }] } },
    { spec: { ports: [{ port: 80, targetPort: 8080 }] } },
    { spec: { ports: [{ port: 80, name: 'http', targetPort: 8080 }] } },
  ],
  [
    'ports of an EndpointSlice are replaced',
    'EndpointSlice',
    { ports: [{ port: 1 }] },
    { ports: [{ port: 2 }] },
    { ports: [{ port: 2 }] },
  ],
  [
    'conditions merge by type',
    'Pod',
    { status: { conditions: [{ type: 'Ready', status: 'False' }] } },
    {
      status: {
        conditions: [
          { type: 'Ready', status: 'True' },
          { type: 'X', status: 'True' },
        ],
      },
    },
    {
      status: {
        conditions: [
          { type: 'Ready', status: 'True' },
          { type: 'X', status: 'True' },
        ],
      },
    },
  ],
  [
    'mounts merge by path',
    'Pod',
    pod([{ name: 'w', volumeMounts: [{ mountPath: '/a', name: 'v' }] }]),
    pod([{ name: 'w', volumeMounts: [{ mountPath: '/b', name: 'v' }] }]),
    pod([
      {
        name: 'w',
        volumeMounts: [
          { mountPath: '/b', name: 'v' },
          { mountPath: '/a', name: 'v' },
        ],
      },
    ]),
  ],
];

for (const [what, kind, target, patch, result] of CASES)
  test(`strategic merge: ${what}`, () => {
    const before = structuredClone([target, patch]);
    assert.deepEqual(strategicMerge(schemaOf(kind), target, patch), result);
    assert.deepEqual([target, patch], before, 'arguments stay as they were');
  });

test('strategic merge: an item without its key, or an unknown directive, is refused', () => {
  for (const patch of [pod([{ image: 'x' }]), { spec: { $patch: 'jump' } }, []])
    assert.throws(() => strategicMerge(schemaOf('Pod'), pod([web]), patch), StatusError);
});
