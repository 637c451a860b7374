import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Container, Pod } from '#k8s/objects.ts';
import { containerEnv, type EnvSource, expand, fieldValue } from './env.ts';

const pod: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', namespace: 'ns', uid: 'u', labels: { app: 'web', b: 'x' } },
  spec: { containers: [], serviceAccountName: 'sa' },
};
const facts = { podIps: ['10.244.1.2'], hostIps: ['172.31.0.11'], nodeName: 'n1', allocatable: {} };
const source: EnvSource = {
  configMap: (namespace, name) =>
    namespace === 'ns' && name === 'cm'
      ? { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { k: 'v', 'other.key': 'w' } }
      : undefined,
  secret: (_namespace, name) =>
    name === 's' ? { apiVersion: 'v1', kind: 'Secret', metadata: { name }, data: { p: 'aGk=' } } : undefined,
};
const envOf = (env: Container['env'], envFrom?: Container['envFrom']): unknown => {
  const container: Container = { name: 'c', image: 'i', ...(env && { env }), ...(envFrom && { envFrom }) };
  const result = containerEnv(pod, container, facts, source, { HOME: '/' });
  return result.kind === 'env' ? result.env : result.message;
};

test('expansion follows the rules of container env and command lines', () => {
  const env = { A: 'a', B: 'b c' };
  const cases: readonly (readonly [string, string])[] = [
    ['$(A)', 'a'],
    ['x$(A)y$(B)', 'xayb c'],
    ['$(NOPE)', '$(NOPE)'],
    ['$$(A)', '$(A)'],
    ['$A', '$A'],
    ['$(A', '$(A'],
    ['$', '$'],
    ['$$$(A)', '$a'],
    ['$(__proto__)', '$(__proto__)'],
  ];
  for (const [text, expected] of cases) assert.equal(expand(text, env), expected, text);
});

test('text without a dollar sign is never changed', () => {
  fc.assert(
    fc.property(
      fc.string().filter((text) => !text.includes('$')),
      (text) => {
        assert.equal(expand(text, { a: 'b' }), text);
      },
    ),
  );
});

test('variables see those before them, references are resolved, the base stays', () => {
  assert.deepEqual(
    envOf([
      { name: 'A', value: '1' },
      { name: 'B', value: '$(A)2$(C)' },
      { name: 'C', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
      { name: 'L', valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } },
      { name: 'K', valueFrom: { configMapKeyRef: { name: 'cm', key: 'k' } } },
      { name: 'S', valueFrom: { secretKeyRef: { name: 's', key: 'p' } } },
      { name: 'O', valueFrom: { secretKeyRef: { name: 'none', key: 'p', optional: true } } },
    ]),
    { HOME: '/', A: '1', B: '12$(C)', C: '10.244.1.2', L: 'web', K: 'v', S: 'hi' },
  );
  assert.deepEqual(envOf(undefined, [{ prefix: 'X_', configMapRef: { name: 'cm' } }]), {
    HOME: '/',
    X_k: 'v',
    'X_other.key': 'w',
  });
});

test('what is missing is named', () => {
  assert.equal(
    envOf([{ name: 'K', valueFrom: { configMapKeyRef: { name: 'cm', key: 'z' } } }]),
    "couldn't find key z in ConfigMap ns/cm",
  );
  assert.equal(envOf(undefined, [{ secretRef: { name: 'none' } }]), 'secret "none" not found');
});

test('fields of the downward API', () => {
  assert.equal(fieldValue(pod, 'spec.serviceAccountName', facts), 'sa');
  assert.equal(fieldValue(pod, 'spec.nodeName', facts), 'n1');
  assert.equal(fieldValue(pod, 'status.hostIP', facts), '172.31.0.11');
  assert.equal(fieldValue(pod, 'metadata.labels', facts), 'app="web"\nb="x"');
  assert.equal(fieldValue(pod, "metadata.labels['none']", facts), '');
  assert.equal(fieldValue(pod, 'spec.secret', facts), undefined);
});
