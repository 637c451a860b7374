import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseManifests } from '#k8s/manifests.ts';
import type { KubeObject } from '#k8s/objects.ts';
import { type PeerProgram, withPeerSettings } from './peer-settings.ts';

const deploy = join(import.meta.dirname, '../../deploy');
const objects = ['istio-cni.yaml', 'istiod.yaml', 'ztunnel.yaml'].flatMap((file) =>
  parseManifests(readFileSync(join(deploy, file), 'utf8'), file),
);

interface Template {
  readonly containers: readonly {
    readonly args?: readonly string[];
    readonly env: readonly { readonly name: string; readonly value?: string }[];
    readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
  }[];
  readonly volumes?: readonly { readonly name: string }[];
}
const templates = (all: readonly KubeObject[]): Template[] =>
  all.flatMap((object) =>
    'spec' in object && (object.kind === 'DaemonSet' || object.kind === 'Deployment')
      ? (object.spec as { readonly template: { readonly spec: Template } }).template.spec
      : [],
  );
const adapted = (...programs: PeerProgram[]): KubeObject[] =>
  objects.map((object) => withPeerSettings(object, new Set(programs)));

test('nothing replaced: the manifests stay as they are', () => {
  assert.deepEqual(adapted(), objects);
});

test('each replaced program is found in deploy/, and only its own manifest changes', () => {
  for (const program of ['ztunnel', 'control', 'cni'] as const) {
    const changed = adapted(program).filter((object, index) => object !== objects[index]);
    assert.equal(changed.length, 1, program);
  }
});

test('arguments, variables and mounts come on top; no variable stands twice, every mount has its volume', () => {
  for (const { containers, volumes = [] } of templates(adapted('ztunnel', 'control', 'cni'))) {
    for (const { env, volumeMounts = [] } of containers) {
      const names = env.map(({ name }) => name);
      assert.deepEqual(names, [...new Set(names)]);
      for (const { name } of volumeMounts) assert.ok(volumes.some((volume) => volume.name === name));
    }
  }
  const ztunnel = templates(adapted('ztunnel').filter(({ metadata }) => metadata.name === 'ztunnel'))[0];
  assert.deepEqual(ztunnel?.containers[0]?.args, ['proxy', 'ztunnel']);
  assert.ok(
    ztunnel?.containers[0]?.env.some(({ name, value }) => name === 'INPOD_ENABLED' && value === 'true'),
  );
  const cni = templates(adapted('cni').filter(({ kind }) => kind === 'DaemonSet'))[0];
  assert.ok(cni?.containers[0]?.volumeMounts?.some(({ mountPath }) => mountPath === '/host/etc/cni/net.d'));
});
