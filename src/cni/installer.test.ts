import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { type InstallerOptions, installPlugin, removePlugin } from './installer.ts';

let dir: string;
let options: InstallerOptions;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'culvert-install-'));
  options = {
    netDir: join(dir, 'net.d'),
    binDir: join(dir, 'bin'),
    launcher: '/project/bin/culvert-cni',
    plugin: { runDir: '/run/a', systemNamespace: 'istio-system', excludedNamespaces: ['kube-system'] },
  };
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const ENTRY = {
  type: 'culvert-cni',
  cni_agent_run_dir: '/run/a',
  ambient_enabled: true,
  pod_namespace: 'istio-system',
  exclude_namespaces: ['kube-system'],
};
const read = (name: string): unknown => JSON.parse(readFileSync(join(options.netDir, name), 'utf8'));
const files = (): string[] => readdirSync(options.netDir).sort();

test('without any configuration a list of its own is written, and the program linked', async () => {
  assert.equal(await installPlugin(options), join(options.netDir, '50-culvert.conflist'));
  assert.deepEqual(read('50-culvert.conflist'), { cniVersion: '1.0.0', name: 'culvert', plugins: [ENTRY] });
  assert.equal(readlinkSync(join(options.binDir, 'culvert-cni')), '/project/bin/culvert-cni');
  assert.equal(statSync(join(options.netDir, '50-culvert.conflist')).mode & 0o777, 0o600);
  await removePlugin(options);
  assert.deepEqual([files(), readdirSync(options.binDir)], [[], []]);
});

test('it is chained last into the first list, whose mode stays; twice changes nothing; removal restores', async () => {
  mkdirSync(options.netDir);
  const primary = join(options.netDir, '10-kindnet.conflist');
  const list = {
    cniVersion: '0.3.1',
    name: 'kindnet',
    plugins: [{ type: 'ptp', mtu: 1500 }, { type: 'portmap' }],
  };
  writeFileSync(join(options.netDir, '05-broken.conflist'), '{');
  writeFileSync(join(options.netDir, '50-culvert.conflist'), '{}');
  writeFileSync(primary, JSON.stringify(list));
  chmodSync(primary, 0o644);
  assert.equal(await installPlugin(options), primary);
  assert.deepEqual(read('10-kindnet.conflist'), { ...list, plugins: [...list.plugins, ENTRY] });
  assert.equal(statSync(primary).mode & 0o777, 0o644);
  assert.deepEqual(files(), ['05-broken.conflist', '10-kindnet.conflist']);

  const { ino } = statSync(primary);
  await installPlugin(options);
  assert.equal(statSync(primary).ino, ino, 'not written again');
  await installPlugin({ ...options, plugin: { ...options.plugin, runDir: '/run/b' } });
  assert.equal((read('10-kindnet.conflist') as { plugins: unknown[] }).plugins.length, 3);
  await removePlugin(options);
  assert.deepEqual(read('10-kindnet.conflist'), list);
});

test('a configuration that cannot be chained to is an error, not an unused file beside it', async () => {
  mkdirSync(options.netDir);
  writeFileSync(join(options.netDir, '10-bridge.conf'), JSON.stringify({ name: 'b', type: 'bridge' }));
  await assert.rejects(
    installPlugin(options),
    (error) =>
      error instanceof MeshError && error.code === 'CONFIG_INVALID' && /10-bridge\.conf/.test(error.message),
  );
});
