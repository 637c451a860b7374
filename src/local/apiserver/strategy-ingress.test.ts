// Ingresses and their classes as the API server takes and shows them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from './object.ts';
import { makeRig, refused } from './test-rig.ts';

const create = (spec: JsonObject): JsonObject =>
  makeRig().create('ingresses', { metadata: { name: 'shop' }, spec });
const service = (port: JsonObject): JsonObject => ({ service: { name: 'web', port } });
const path = (each: JsonObject): JsonObject => ({
  rules: [{ host: 'shop.example', http: { paths: [each] } }],
});
const BACKEND = service({ number: 80 });
const GOOD = { path: '/', pathType: 'Prefix', backend: BACKEND };

test('rules, a fallback, or both', () => {
  assert.deepEqual(create({ defaultBackend: service({ name: 'http' }) }).spec, {
    defaultBackend: service({ name: 'http' }),
  });
  create(path(GOOD));
  create({
    rules: [
      {
        host: '*.example',
        http: { paths: [{ pathType: 'ImplementationSpecific', backend: BACKEND }] },
      },
    ],
  });
});

const REFUSALS: readonly (readonly [spec: JsonObject, text: string])[] = [
  [{}, 'spec: Invalid value: null: either `defaultBackend` or `rules` must be specified'],
  [{ defaultBackend: {} }, 'spec.defaultBackend: Required value: resource or service backend is required'],
  [{ defaultBackend: service({}) }, 'spec.defaultBackend: Required value: port name or number is required'],
  [{ defaultBackend: service({ name: 'a', number: 1 }) }, 'cannot set both port name & port number'],
  [
    { defaultBackend: service({ number: 70_000 }) },
    'spec.defaultBackend.service.port.number: Invalid value: 70000',
  ],
  [
    { rules: [{ host: '10.0.0.1' }] },
    'spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address',
  ],
  [{ rules: [{ host: 'Shop_1' }] }, 'spec.rules[0].host: Invalid value: "Shop_1"'],
  [{ rules: [{ http: { paths: [] } }] }, 'spec.rules[0].http.paths: Required value'],
  [
    path({ path: '/', backend: BACKEND }),
    'spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified',
  ],
  [
    path({ ...GOOD, pathType: 'Glob' }),
    'pathType: Unsupported value: "Glob": supported values: "Exact", "ImplementationSpecific", "Prefix"',
  ],
  [
    path({ ...GOOD, path: 'cart' }),
    'spec.rules[0].http.paths[0].path: Invalid value: "cart": must be an absolute path',
  ],
];
for (const [spec, text] of REFUSALS)
  test(`refused: ${text.slice(0, 90)}`, () => {
    assert.throws(() => create(spec), refused(422, text));
  });

test('a class names its controller once and for all', () => {
  const rig = makeRig();
  assert.throws(
    () => rig.create('ingressclasses', { metadata: { name: 'a' }, spec: {} }),
    /spec\.controller: Required/,
  );
  assert.throws(
    () => rig.create('ingressclasses', { metadata: { name: 'a' }, spec: { controller: 'nodomain' } }),
    /must be a domain-prefixed path/,
  );
  const made = rig.create('ingressclasses', {
    metadata: { name: 'edge' },
    spec: {
      controller: 'example.com/edge',
      parameters: { kind: 'Edge', apiGroup: 'example.com', name: 'main' },
    },
  });
  assert.equal(((made.spec as JsonObject).parameters as JsonObject).scope, 'Cluster');
  const cells = rig
    .kind('ingressclasses')
    .columns.slice(0, 3)
    .map(({ cell }) => cell(made, 0));
  assert.deepEqual(cells, ['edge', 'example.com/edge', 'Edge.example.com/main']);
});

test('kubectl get ingress shows class, hosts, address and ports', () => {
  const rig = makeRig();
  const cells = (spec: JsonObject): unknown[] => {
    const object = rig.create('ingresses', { metadata: { generateName: 'i-' }, spec });
    return rig
      .kind('ingresses')
      .columns.slice(1, 5)
      .map(({ cell }) => cell(object, 0));
  };
  const hosts = (...names: string[]): JsonObject => ({ rules: names.map((host) => ({ host })) });
  assert.deepEqual(cells({ defaultBackend: service({ number: 80 }) }), ['<none>', '*', '', '80']);
  assert.deepEqual(cells({ ...hosts('a.example', 'b.example'), ingressClassName: 'edge', tls: [{}] }), [
    'edge',
    'a.example,b.example',
    '',
    '80, 443',
  ]);
  assert.equal(cells(hosts('a', 'b', 'c', 'd', 'e'))[1], 'a,b,c + 2 more...');
});

test('webhooks that nobody would call are refused; without them the object is an ordinary one', () => {
  const rig = makeRig();
  for (const kind of ['validatingwebhookconfigurations', 'mutatingwebhookconfigurations']) {
    rig.create(kind, { metadata: { name: 'empty' }, webhooks: [] });
    assert.throws(
      () => rig.create(kind, { metadata: { name: 'istio-validator' }, webhooks: [{ name: 'a.b.c' }] }),
      /webhooks: Forbidden: this API server calls no admission webhooks/,
    );
  }
});
