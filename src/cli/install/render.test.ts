import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Container, DaemonSet, Deployment, KubeObject } from '#k8s/objects.ts';
import { MANAGED_BY, renderMesh } from './render.ts';
import { parseSettings } from './settings.ts';

const projectDir = join(import.meta.dirname, '../../..');
const render = (pairs: readonly string[], image?: string): KubeObject[] =>
  renderMesh(projectDir, '9.9.9', parseSettings(pairs, image)).flatMap(({ objects }) => objects);

function workload(
  objects: readonly KubeObject[],
  name: string,
): { spec: Deployment['spec']; container: Container } {
  const found = objects.find(
    ({ kind, metadata }) => (kind === 'Deployment' || kind === 'DaemonSet') && metadata.name === name,
  ) as Deployment | DaemonSet | undefined;
  assert.ok(found, name);
  return { spec: found.spec, container: found.spec.template.spec.containers[0] as Container };
}
const variable = (container: Container, name: string): string | undefined =>
  container.env?.find((one) => one.name === name)?.value;

test('every object carries the label by which uninstall finds it; selectors and templates do not', () => {
  const objects = render([]);
  for (const { kind, metadata } of objects) {
    assert.equal(
      metadata.labels?.['app.kubernetes.io/managed-by'],
      MANAGED_BY['app.kubernetes.io/managed-by'],
      kind,
    );
    assert.equal(metadata.labels?.['app.kubernetes.io/version'], '9.9.9');
  }
  const { spec } = workload(objects, 'ztunnel');
  // A new version must roll out for its image only, and a selector cannot be changed.
  assert.equal(spec.template.metadata?.labels?.['app.kubernetes.io/version'], undefined);
  assert.deepEqual(Object.keys(spec.selector.matchLabels ?? {}), ['app']);
});

test('profile minimal is the control plane and the definitions', () => {
  const kinds = render(['profile=minimal']).map(({ kind }) => kind);
  assert.ok(kinds.includes('Deployment') && kinds.includes('CustomResourceDefinition'));
  assert.ok(!kinds.includes('DaemonSet'));
});

test('in the embedded cluster programs of this machine, elsewhere one image with the program as argument', () => {
  assert.equal(workload(render([]), 'ztunnel').container.image, 'local/ztunnel');
  const objects = render([], 'r.example/culvert:1');
  for (const [name, program] of [
    ['istiod', 'control'],
    ['istio-cni-node', 'cni'],
    ['ztunnel', 'ztunnel'],
  ] as const) {
    const { container } = workload(objects, name);
    assert.equal(container.image, 'r.example/culvert:1');
    assert.deepEqual(container.args, [program]);
  }
});

test('settings reach the programs they are meant for, and replace what the manifest says', () => {
  const objects = render([
    'meshConfig.trustDomain=example.org',
    'global.multiCluster.clusterName=east',
    'ztunnel.terminationGracePeriodSeconds=90',
    'cni.cniBinDir=/home/kubernetes/bin',
  ]);
  const istiod = workload(objects, 'istiod');
  assert.equal(variable(istiod.container, 'TRUST_DOMAIN'), 'example.org');
  assert.equal(istiod.container.env?.filter(({ name }) => name === 'TRUST_DOMAIN').length, 1);
  const ztunnel = workload(objects, 'ztunnel');
  assert.equal(variable(ztunnel.container, 'CLUSTER_ID'), 'east');
  assert.equal(ztunnel.spec.template.spec.terminationGracePeriodSeconds, 90);
  assert.equal(variable(ztunnel.container, 'TERMINATION_GRACE_PERIOD_SECONDS'), '90');
  const volumes = workload(objects, 'istio-cni-node').spec.template.spec.volumes;
  assert.equal(volumes?.find(({ name }) => name === 'cni-bin')?.hostPath?.path, '/home/kubernetes/bin');
  assert.equal(volumes?.find(({ name }) => name === 'cni-net')?.hostPath?.path, '/etc/cni/net.d');
});
