import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Scope } from '#base/scope.ts';
import { createStore } from '#model/store.ts';
import type { WorkloadUid } from '#model/workload.ts';
import { createLogger, silentLogger } from '#telemetry/log.ts';
import { until } from '../../../test/lib/until.ts';
import { loadStaticState } from './load.ts';

const workload = (uid: string, name = uid): string =>
  `- { uid: ${uid}, name: ${name}, namespace: x, workloadIps: [], services: {} }\n`;

function rig(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-static-'));
  const scope = new Scope('test');
  t.after(() => {
    scope.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const lines: string[] = [];
  const log = createLogger('state', { format: 'plain', level: 'info', write: (line) => lines.push(line) });
  const store = createStore({ localNode: 'n1' });
  return { dir, lines, store, deps: { scope, log, store } };
}

const FOLLOW = { follow: true };

const names = (store: ReturnType<typeof createStore>): string[] =>
  [...store.workloads()].map(({ name }) => name).sort();

test('a changed file is loaded again; only what differs is applied', async (t) => {
  const { dir, store, deps } = rig(t);
  const path = join(dir, 'state.yaml');
  writeFileSync(path, `workloads:\n${workload('a')}${workload('b')}`);
  await loadStaticState(deps, { path }, FOLLOW);
  assert.deepEqual(names(store), ['a', 'b']);
  const changed: string[] = [];
  store.onWorkloadChange((changes) => changed.push(...changes.map(({ uid }) => uid)));
  writeFileSync(path, `workloads:\n${workload('a')}${workload('c')}`);
  await until('the change is seen', () => store.workload('c' as WorkloadUid) !== undefined);
  assert.deepEqual(names(store), ['a', 'c']);
  assert.deepEqual(changed.sort(), ['b', 'c']);
});

test('a file that is replaced by a link, as a ConfigMap is, is seen', async (t) => {
  const { dir, store, deps } = rig(t);
  for (const [version, name] of ['one', 'two'].entries()) {
    mkdirSync(join(dir, `v${version}`));
    writeFileSync(join(dir, `v${version}`, 'state.yaml'), `workloads:\n${workload('a', name)}`);
  }
  symlinkSync('v0', join(dir, 'data'));
  symlinkSync('data/state.yaml', join(dir, 'state.yaml'));
  await loadStaticState(deps, { path: join(dir, 'state.yaml') }, FOLLOW);
  assert.deepEqual(names(store), ['one']);
  symlinkSync('v1', join(dir, 'next'));
  renameSync(join(dir, 'next'), join(dir, 'data'));
  await until('the change is seen', () => names(store)[0] === 'two');
});

test('a file that has become wrong changes nothing and says where', async (t) => {
  const { dir, store, lines, deps } = rig(t);
  const path = join(dir, 'state.yaml');
  writeFileSync(path, `workloads:\n${workload('a')}`);
  await loadStaticState(deps, { path }, FOLLOW);
  writeFileSync(path, 'workloads:\n- uid: b\n  nmae: b\n');
  await until('the change is seen', () => lines.some((line) => line.includes('line 3: unknown key')));
  assert.deepEqual(names(store), ['a']);
  writeFileSync(path, `workloads:\n${workload('b')}`);
  await until('the change is seen', () => names(store)[0] === 'b');
});

test('what another source has put into the store stays', async (t) => {
  const { dir, store, deps } = rig(t);
  const path = join(dir, 'state.yaml');
  writeFileSync(path, `workloads:\n${workload('a')}`);
  await loadStaticState({ ...deps, log: silentLogger }, { text: `workloads:\n${workload('xds')}` }, FOLLOW);
  await loadStaticState(deps, { path }, FOLLOW);
  writeFileSync(path, '');
  await until('the change is seen', () => names(store).length === 1);
  assert.deepEqual(names(store), ['xds']);
});

test('a missing or wrong file is a failure at the start', async (t) => {
  const { dir, deps } = rig(t);
  await assert.rejects(
    loadStaticState(deps, { path: join(dir, 'none.yaml') }, FOLLOW),
    /LOCAL_XDS_PATH: .*none\.yaml cannot be read/,
  );
  await assert.rejects(
    loadStaticState(deps, { text: 'x: 1' }, FOLLOW),
    /^MeshError: LOCAL_XDS, line 1: unknown key "x"/,
  );
});

test('beside a control plane a changed file takes nothing back', async (t) => {
  const { dir, store, deps } = rig(t);
  const path = join(dir, 'state.yaml');
  const other = join(dir, 'other.yaml');
  for (const [file, name] of [
    [path, 'a'],
    [other, 'b'],
  ] as const)
    writeFileSync(file, `workloads:\n${workload(name)}`);
  await loadStaticState(deps, { path }, { follow: false });
  await loadStaticState(deps, { path: other }, FOLLOW);
  writeFileSync(path, '');
  writeFileSync(other, `workloads:\n${workload('c')}`);
  // The second file is in the same directory: when its change has been seen, the first one's would have been.
  await until('the change is seen', () => names(store).includes('c'));
  assert.deepEqual(names(store), ['a', 'c']);
});
