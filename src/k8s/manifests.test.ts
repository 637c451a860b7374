import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from './client.ts';
import { applyManifests, inApplyOrder, parseManifests } from './manifests.ts';
import type { KubeObject, Resource } from './objects.ts';

const names = (objects: readonly KubeObject[]): string[] =>
  objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`);

test('documents, lists, empty documents and comments', () => {
  const text = `# a comment
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
---
# nothing here
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
- apiVersion: v1
  kind: ConfigMapList
  items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}]
`;
  assert.deepEqual(names(parseManifests(text, 'x.yaml')), ['Namespace/shop', 'ConfigMap/a', 'ConfigMap/b']);
  assert.deepEqual(parseManifests('', 'x.yaml'), []);
  assert.deepEqual(
    names(parseManifests('{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}}', 'x.json')),
    ['Pod/p'],
  );
});

test('values as kubectl reads them', () => {
  const [object] = parseManifests(
    `apiVersion: v1
kind: X
metadata: {name: a}
yes: yes
mode: 0644
time: 2026-01-02T03:04:05Z
clock: 12:30:45
quoted: "yes"
`,
    'x.yaml',
  );
  assert.deepEqual(object, {
    apiVersion: 'v1',
    kind: 'X',
    metadata: { name: 'a' },
    true: true,
    mode: 420,
    time: '2026-01-02T03:04:05Z',
    clock: '12:30:45',
    quoted: 'yes',
  });
});

test('what is wrong is named by file, document and line', () => {
  const head = 'apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n';
  const cases: readonly [string, RegExp][] = [
    [`${head}apiVersion: v1\nkind: "Pod\n`, /^m\.yaml, document 2, line \d: /],
    [`${head}a: 1\na: 2\n`, /^m\.yaml, document 2, line 6: .*unique/],
    [`${head}# here\nkind: Pod\n`, /^m\.yaml, document 2, line 6: the object has no apiVersion$/],
    [`${head}apiVersion: v1\n`, /^m\.yaml, document 2, line 5: the object has no kind$/],
    [`${head}apiVersion: v1\nkind: Pod\nmetadata: {}\n`, /line 5: the Pod has no metadata\.name/],
    [`${head}apiVersion: v1\nkind: Pod\nmetadata: {name: 12}\n`, /must be quoted/],
    [`${head}- a\n`, /no Kubernetes object/],
    [`${head}just text\n`, /no Kubernetes object/],
    [
      `${head}{apiVersion: v1, kind: List, items: [{kind: Pod}]}\n`,
      /line 5, item 1: the object has no apiVersion/,
    ],
  ];
  for (const [text, pattern] of cases)
    assert.throws(
      () => parseManifests(text, 'm.yaml'),
      (error) => {
        assert.ok(error instanceof MeshError && error.code === 'MANIFEST_INVALID');
        assert.match(error.message, pattern);
        return true;
      },
      text,
    );
});

const object = (apiVersion: string, kind: string, name: string): KubeObject => ({
  apiVersion,
  kind,
  metadata: { name },
});

test('the order: what others need comes first, equals keep their place', () => {
  const objects = [
    object('security.istio.io/v1', 'AuthorizationPolicy', 'deny'),
    object('apps/v1', 'Deployment', 'web'),
    object('v1', 'Service', 'web'),
    object('v1', 'Secret', 's'),
    object('v1', 'ConfigMap', 'c'),
    object('rbac.authorization.k8s.io/v1', 'ClusterRoleBinding', 'r'),
    object('v1', 'ServiceAccount', 'web'),
    object('apiextensions.k8s.io/v1', 'CustomResourceDefinition', 'crd'),
    object('v1', 'Namespace', 'shop'),
  ];
  assert.deepEqual(names(inApplyOrder(objects)), [
    'Namespace/shop',
    'CustomResourceDefinition/crd',
    'ServiceAccount/web',
    'ClusterRoleBinding/r',
    'Secret/s',
    'ConfigMap/c',
    'Service/web',
    'AuthorizationPolicy/deny',
    'Deployment/web',
  ]);
});

const refusal = (status: number): MeshError =>
  new MeshError('API_STATUS', 'refused by the server', { details: { status, reason: '' } });

function recordingClient(overrides: Partial<Record<keyof KubeClient, unknown>> = {}) {
  const calls: string[] = [];
  const note =
    (verb: string) =>
    async (resource: Resource, ...rest: unknown[]): Promise<unknown> => {
      calls.push(
        `${verb} ${resource.group}/${resource.plural} ${JSON.stringify(rest.filter((value) => typeof value === 'string'))}`,
      );
      return rest[2] ?? rest[0];
    };
  const client = {
    patch: note('patch'),
    create: note('create'),
    get: async () => {
      throw refusal(404);
    },
    request: async (_method: string, path: string) => {
      calls.push(`GET ${path}`);
      if (path !== '/apis/example.com/v1') throw refusal(404);
      return {
        resources: [
          { name: 'things', kind: 'Thing', namespaced: true },
          { name: 'things/status', kind: 'Thing', namespaced: true },
        ],
      };
    },
    ...overrides,
  } as unknown as KubeClient;
  return { client, calls };
}

test('applying: known kinds directly, others after one question to the server', async () => {
  const { client, calls } = recordingClient();
  const applied: string[] = [];
  await applyManifests(
    client,
    [
      object('example.com/v1', 'Thing', 'one'),
      object('example.com/v1', 'Thing', 'two'),
      object('v1', 'Namespace', 'n'),
    ],
    'tests',
    ({ metadata }) => applied.push(`${metadata.namespace ?? '-'}/${metadata.name}`),
  );
  assert.deepEqual(calls, [
    'patch /namespaces ["n","apply"]',
    'GET /apis/example.com/v1',
    'patch example.com/things ["one","apply"]',
    'patch example.com/things ["two","apply"]',
  ]);
  assert.deepEqual(applied, ['-/n', 'default/one', 'default/two']);
});

test('a server without server-side apply is given plain creates', async () => {
  const { client, calls } = recordingClient({
    patch: async () => {
      throw refusal(415);
    },
  });
  await applyManifests(client, [object('v1', 'ConfigMap', 'c')], 'tests');
  assert.deepEqual(calls, ['create /configmaps ["default"]']);
});

test('failures name the object', async () => {
  const { client } = recordingClient({
    patch: async () => {
      throw refusal(422);
    },
  });
  await assert.rejects(applyManifests(client, [object('v1', 'ConfigMap', 'c')], 'tests'), {
    code: 'API_STATUS',
    message: 'ConfigMap c: refused by the server',
  });
  await assert.rejects(applyManifests(client, [object('other.com/v1', 'Thing', 'x')], 'tests'), {
    code: 'MANIFEST_INVALID',
    message: /^Thing x: the API server knows no Thing in other\.com\/v1/,
  });
});
