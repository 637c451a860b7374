// Expected schemas are copied by hand from the published OpenAPI description of Kubernetes 1.37.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BUILT_IN_KINDS, VIRTUAL_KINDS } from './kinds.ts';
import type { StructuralSchema } from './schema.ts';
import { builtInSchema, dataFile, readBundle } from './schema-bundle.ts';

const root = join(import.meta.dirname, '../../..');

test('the data is what the generator wrote, from the modules it is pinned to', () => {
  const manifest = JSON.parse(dataFile('manifest.json').toString()) as {
    readonly modules: Record<string, string>;
    readonly sha256: Record<string, string>;
  };
  const goMod = readFileSync(join(root, 'tools/k8s-schema/go.mod'), 'utf8');
  assert.ok(Object.keys(manifest.modules).length >= 4);
  for (const [module, version] of Object.entries(manifest.modules))
    assert.ok(goMod.includes(`\t${module} ${version}`), `go.mod pins another ${module} than ${version}`);
  assert.ok(Object.keys(manifest.sha256).length >= 3);
  for (const [name, hash] of Object.entries(manifest.sha256))
    assert.equal(createHash('sha256').update(dataFile(name)).digest('hex'), hash, name);
});

test('every kind that is served has a schema', () => {
  for (const { group, version, kind } of [...BUILT_IN_KINDS, ...VIRTUAL_KINDS])
    assert.ok(builtInSchema(group, version, kind), `${group}/${version} ${kind}`);
  for (const [group, version, kind] of [
    ['apps', 'v1', 'StatefulSet'],
    ['networking.k8s.io', 'v1', 'NetworkPolicy'],
    ['batch', 'v1', 'Job'],
    ['policy', 'v1', 'Eviction'],
    ['autoscaling', 'v1', 'Scale'],
    ['', 'v1', 'DeleteOptions'],
  ] as const)
    assert.ok(builtInSchema(group, version, kind), kind);
  for (const name of ['Nothing', 'constructor', '__proto__'])
    assert.equal(builtInSchema('', 'v1', name), undefined);
});

const property = (schema: StructuralSchema | undefined, ...path: string[]): StructuralSchema => {
  let node = schema;
  for (const name of path) node = name === '[]' ? node?.items : node?.properties?.[name];
  assert.ok(node, path.join('.'));
  return node;
};

test('lists, maps, defaults and types stand in the schema as Kubernetes publishes them', () => {
  const service = builtInSchema('', 'v1', 'Service');
  const ports = property(service, 'spec', 'ports');
  assert.equal(ports['x-kubernetes-list-type'], 'map');
  assert.deepEqual(ports['x-kubernetes-list-map-keys'], ['port', 'protocol']);
  assert.equal(ports['x-kubernetes-patch-merge-key'], 'port');
  assert.equal(ports['x-kubernetes-patch-strategy'], 'merge');
  assert.equal(property(ports, '[]', 'protocol').default, 'TCP');
  assert.equal(property(ports, '[]', 'targetPort')['x-kubernetes-int-or-string'], true);
  assert.equal(property(service, 'spec', 'selector')['x-kubernetes-map-type'], 'atomic');

  const deployment = builtInSchema('apps', 'v1', 'Deployment');
  assert.deepEqual(property(deployment, 'spec').required, ['selector', 'template']);
  assert.equal(property(deployment, 'spec', 'strategy')['x-kubernetes-patch-strategy'], 'retainKeys');
  assert.equal(property(deployment, 'spec', 'selector')['x-kubernetes-map-type'], 'atomic');
  assert.equal(property(deployment, 'spec', 'replicas').format, 'int32');
  const pod = property(builtInSchema('', 'v1', 'Pod'), 'spec');
  assert.equal(property(deployment, 'spec', 'template', 'spec'), pod, 'one node for one type');
  const container = property(pod, 'containers', '[]');
  assert.equal(property(container, 'resources', 'limits').type, 'object');
  assert.deepEqual(property(container, 'resources', 'limits').additionalProperties, {
    type: 'string',
    format: 'quantity',
  });
  assert.equal(property(container, 'args')['x-kubernetes-list-type'], 'atomic');
  assert.equal(property(pod, 'volumes')['x-kubernetes-patch-strategy'], 'merge,retainKeys');
  const meta = property(builtInSchema('', 'v1', 'Pod'), 'metadata');
  assert.equal(property(meta, 'finalizers')['x-kubernetes-list-type'], 'set');
  assert.equal(property(meta, 'creationTimestamp').format, 'date-time');
});

test('no reference is left, and recursive types point at themselves', () => {
  const seen = new Set<unknown>();
  const walk = (node: unknown): void => {
    if (typeof node !== 'object' || node === null || seen.has(node)) return;
    seen.add(node);
    assert.ok(!Object.hasOwn(node, '$ref') || typeof (node as { $ref: unknown }).$ref !== 'string');
    for (const child of Object.values(node)) walk(child);
  };
  for (const key of Object.keys(readBundle().kinds)) {
    const [kind, version, group] = key.split('/').reverse();
    walk(builtInSchema(group ?? '', version!, kind!));
  }
  assert.ok(seen.size > 1000);
  const versions = property(
    builtInSchema('apiextensions.k8s.io', 'v1', 'CustomResourceDefinition'),
    'spec',
    'versions',
  );
  const json = property(versions, '[]', 'schema', 'openAPIV3Schema');
  assert.equal(property(json, 'properties').additionalProperties, json);
});
