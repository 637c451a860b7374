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
import { type Logger, silentLogger } from '#telemetry/log.ts';
import { until } from '../../../test/lib/until.ts';
import { keepInstalled } from './install-watch.ts';
import { type InstallerOptions, installPlugin, isEffective, removePlugin } from './installer.ts';

let dir: string;
let options: InstallerOptions;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'culvert-install-'));
  options = {
    netDir: join(dir, 'net.d'),
    binDir: join(dir, 'bin'),
    files: { kind: 'link', launcher: '/project/bin/culvert-cni' },
    mode: 'chained',
    groupRead: false,
    plugin: { runDir: '/run/a', systemNamespace: 'istio-system', excludedNamespaces: ['kube-system'] },
  };
  mkdirSync(options.netDir);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const ENTRY = {
  type: 'culvert-cni',
  cni_agent_run_dir: '/run/a',
  ambient_enabled: true,
  pod_namespace: 'istio-system',
  exclude_namespaces: ['kube-system'],
};
const KINDNET = {
  cniVersion: '0.3.1',
  name: 'kindnet',
  plugins: [{ type: 'ptp', mtu: 1500 }, { type: 'portmap' }],
};
const at = (name: string): string => join(options.netDir, name);
const write = (name: string, content: unknown, mode = 0o644): void => {
  writeFileSync(at(name), typeof content === 'string' ? content : JSON.stringify(content));
  chmodSync(at(name), mode);
};
const read = (name: string): unknown => JSON.parse(readFileSync(at(name), 'utf8'));
const files = (): string[] => readdirSync(options.netDir).sort();
const modeOf = (path: string): number => statSync(path).mode & 0o777;
const codeOf = async (work: Promise<unknown>): Promise<string | undefined> =>
  work.then(
    () => undefined,
    (error: unknown) => (error instanceof MeshError ? error.code : String(error)),
  );

test('chained: last in the first list, whose mode stays; twice changes nothing; removal restores', async () => {
  write('05-broken.conflist', '{');
  write('06-nameless.conflist', { plugins: [{ type: 'x' }] });
  write('07-empty.conflist', { name: 'e', plugins: [] });
  write('10-kindnet.conflist', KINDNET);
  assert.equal(await isEffective(options), false);
  assert.equal(await installPlugin(options), at('10-kindnet.conflist'));
  assert.deepEqual(read('10-kindnet.conflist'), { ...KINDNET, plugins: [...KINDNET.plugins, ENTRY] });
  assert.equal(modeOf(at('10-kindnet.conflist')), 0o644);
  assert.equal(readlinkSync(join(options.binDir, 'culvert-cni')), '/project/bin/culvert-cni');
  assert.equal(await isEffective(options), true);

  const { ino } = statSync(at('10-kindnet.conflist'));
  await installPlugin(options);
  assert.equal(statSync(at('10-kindnet.conflist')).ino, ino, 'not written again');
  const moved = { ...options, plugin: { ...options.plugin, runDir: '/run/b' } };
  assert.equal(await isEffective(moved), false);
  await installPlugin(moved);
  assert.equal((read('10-kindnet.conflist') as { plugins: unknown[] }).plugins.length, 3);
  await removePlugin(options);
  assert.deepEqual(read('10-kindnet.conflist'), KINDNET);
  assert.deepEqual(readdirSync(options.binDir), []);
});

test('chained: a single plugin becomes a list in place of its file', async () => {
  write('10-bridge.conf', { cniVersion: '0.4.0', name: 'b', type: 'bridge' }, 0o640);
  assert.equal(await installPlugin(options), at('10-bridge.conflist'));
  assert.deepEqual(read('10-bridge.conflist'), {
    name: 'k8s-pod-network',
    cniVersion: '0.3.1',
    plugins: [{ name: 'b', type: 'bridge' }, ENTRY],
  });
  assert.deepEqual(files(), ['10-bridge.conflist']);
  assert.equal(modeOf(at('10-bridge.conflist')), 0o640);
  assert.equal(await isEffective(options), true);
});

test('chained: a chosen configuration goes before the first one, with either extension', async () => {
  write('10-kindnet.conflist', KINDNET);
  write('20-other.conflist', { name: 'other', plugins: [{ type: 'x' }] });
  assert.equal(await installPlugin({ ...options, primaryName: '20-other.conf' }), at('20-other.conflist'));
});

test('without a primary configuration nothing is written: the node is not to look ready', async () => {
  assert.equal(await codeOf(installPlugin(options)), 'CNI_NO_PRIMARY');
  assert.deepEqual(files(), []);
});

test('owned: a copy of the primary that comes before it, and notices what the primary becomes', async () => {
  const owned = { ...options, mode: 'owned' as const, groupRead: true };
  write('10-kindnet.conflist', KINDNET);
  assert.equal(await installPlugin(owned), at('02-istio-cni.conflist'));
  assert.deepEqual(read('02-istio-cni.conflist'), { ...KINDNET, plugins: [...KINDNET.plugins, ENTRY] });
  assert.deepEqual(read('10-kindnet.conflist'), KINDNET);
  assert.equal(modeOf(at('02-istio-cni.conflist')), 0o640);
  assert.equal(await isEffective(owned), true);
  write('10-kindnet.conflist', { ...KINDNET, plugins: [{ type: 'bridge' }] });
  assert.equal(await isEffective(owned), false);
  await installPlugin(owned);
  assert.deepEqual((read('02-istio-cni.conflist') as { plugins: unknown[] }).plugins, [
    { type: 'bridge' },
    ENTRY,
  ]);
  assert.equal(await codeOf(installPlugin({ ...owned, ownName: '99-late.conflist' })), 'CONFIG_INVALID');
  await removePlugin(owned);
  assert.deepEqual(files(), ['10-kindnet.conflist']);
});

test('standalone: a file of its own for a meta-plugin', async () => {
  const alone = { ...options, mode: 'standalone' as const };
  write('10-multus.conflist', KINDNET);
  assert.equal(await installPlugin(alone), at('YYY-istio-cni.conf'));
  assert.deepEqual(read('YYY-istio-cni.conf'), { cniVersion: '0.3.1', name: 'istio-cni', ...ENTRY });
  assert.equal(modeOf(at('YYY-istio-cni.conf')), 0o600);
  assert.equal(await isEffective(alone), true);
  assert.deepEqual(read('10-multus.conflist'), KINDNET);
});

test('copied: the node gets Node, the bundle and a script; leftovers of a killed agent go', async () => {
  const [node, bundle] = [join(dir, 'node'), join(dir, 'cni-plugin.mjs')];
  writeFileSync(node, '#!/bin/sh\necho "$1 ran with $2"\n', { mode: 0o755 });
  writeFileSync(bundle, '// plugin');
  mkdirSync(options.binDir);
  writeFileSync(join(options.binDir, 'culvert-cni.tmp.77'), 'half');
  write('10-kindnet.conflist', KINDNET);
  const copied = { ...options, files: { kind: 'copy' as const, node, bundle } };
  await installPlugin(copied);
  assert.deepEqual(readdirSync(options.binDir).sort(), ['culvert-cni', 'culvert-cni.d']);
  assert.equal(modeOf(join(options.binDir, 'culvert-cni')), 0o755);
  assert.equal(readFileSync(join(options.binDir, 'culvert-cni.d/plugin.mjs'), 'utf8'), '// plugin');
  assert.equal(await isEffective(copied), true);
  rmSync(join(options.binDir, 'culvert-cni.d/node'));
  assert.equal(await isEffective(copied), false);
  await installPlugin(copied);
  await removePlugin(copied);
  assert.deepEqual(readdirSync(options.binDir), []);
});

test('the watch waits for a network, mends what others rewrite, and complains of a quarrel', async () => {
  const told: string[] = [];
  const note = (text: string): void => void told.push(text);
  const log: Logger = { ...silentLogger, info: note, warn: note, error: note };
  const results: string[] = [];
  const watch = keepInstalled({ log, onInstall: (result) => results.push(result) }, options);
  const named = (): boolean =>
    files().length > 0 && JSON.stringify(read('10-kindnet.conflist')).includes('culvert-cni');
  try {
    await until('it waits', () => told.some((text) => text.startsWith('waiting for the network')));
    assert.equal(watch.isInstalled, false);
    write('10-kindnet.conflist', KINDNET);
    await until('installed', () => watch.isInstalled && named());
    for (let times = 1; times <= 6; times++) {
      write('10-kindnet.conflist', KINDNET);
      await until('mended', () => watch.isInstalled && named() && results.length > times);
    }
    assert.ok(told.some((text) => text.includes('taken out of the CNI configuration')));
    assert.ok(told.some((text) => text.includes('cni.exclusive=false')));
    rmSync(join(options.binDir, 'culvert-cni'));
    await until('linked again', () => readdirSync(options.binDir).includes('culvert-cni'));
    assert.ok(results.every((result) => result === 'SUCCESS'));
  } finally {
    await watch.stop();
  }
});

test('a configuration that is cut short, or a directory that cannot be read, does not end the watch', async () => {
  const owned = { ...options, mode: 'owned' as const };
  write('10-kindnet.conflist', KINDNET);
  const own = at('02-istio-cni.conflist');
  const stands = (): boolean => {
    try {
      return readFileSync(own, 'utf8').includes(ENTRY.type);
    } catch {
      return false;
    }
  };
  const watch = keepInstalled({ log: silentLogger, onInstall: () => {} }, owned);
  try {
    await until('installed', () => watch.isInstalled && stands());
    write('02-istio-cni.conflist', '{ "name": ');
    await until('mended', () => watch.isInstalled && stands());
    // The installation makes a directory that is missing, at any moment.
    await until('no directory', () => {
      try {
        rmSync(options.netDir, { recursive: true });
        writeFileSync(options.netDir, 'no directory');
        return true;
      } catch {
        return false;
      }
    });
    await until('noticed', () => !watch.isInstalled);
    rmSync(options.netDir);
    mkdirSync(options.netDir, { recursive: true });
    write('10-kindnet.conflist', KINDNET);
    await until('installed again', () => watch.isInstalled && stands());
  } finally {
    await watch.stop();
  }
});
