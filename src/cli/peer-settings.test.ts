import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseManifests } from '#k8s/manifests.ts';
import type { KubeObject } from '#k8s/objects.ts';
import { type PeerProgram, withPeers } from './peer-settings.ts';

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
  readonly volumes?: readonly { readonly name: string; readonly hostPath?: { readonly path: string } }[];
}
const templates = (all: readonly KubeObject[]): Template[] =>
  all.flatMap((object) =>
    'spec' in object && (object.kind === 'DaemonSet' || object.kind === 'Deployment')
      ? (object.spec as { readonly template: { readonly spec: Template } }).template.spec
      : [],
  );
const adapted = (...programs: PeerProgram[]): KubeObject[] =>
  withPeers(objects, new Map(programs.map((program) => [program, `/peers/${program}`])));

test('nothing replaced: the manifests stay as they are', () => {
  assert.deepEqual(adapted(), objects);
});

test('each replaced program is found in deploy/, and only its own manifest changes', () => {
  for (const program of ['ztunnel', 'control', 'cni'] as const) {
    const after = adapted(program);
    assert.equal(objects.filter((object) => !after.includes(object)).length, 1, program);
  }
});

test('a peer gets the roles its own installation would give it, bound to the account it runs as', () => {
  const accounts = { control: 'istiod', cni: 'istio-cni' } as const;
  for (const program of ['control', 'cni'] as const) {
    const added = adapted(program).filter(({ metadata }) => metadata.name.startsWith('peer-'));
    const bindings = added.filter(({ kind }) => kind.endsWith('Binding'));
    assert.equal(added.length, 2 * bindings.length);
    for (const binding of bindings)
      assert.deepEqual((binding as KubeObject & { subjects: unknown }).subjects, [
        { kind: 'ServiceAccount', name: accounts[program], namespace: 'istio-system' },
      ]);
  }
  assert.ok(
    adapted('control').some(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'istio'),
  );
});

test("the agent's own directory is where it looks for its plugin, the node's is where it puts it", () => {
  const [cni] = templates(adapted('cni').filter(({ kind }) => kind === 'DaemonSet'));
  const pathOf = (mountPath: string): string | undefined => {
    const found = cni?.containers[0]?.volumeMounts?.filter((mount) => mount.mountPath === mountPath) ?? [];
    assert.equal(found.length, 1, mountPath);
    return cni?.volumes?.find(({ name }) => name === found[0]?.name)?.hostPath?.path;
  };
  assert.equal(pathOf('/opt/cni/bin'), '/peers/cni');
  assert.equal(pathOf('/host/opt/cni/bin'), '/opt/cni/bin');
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
