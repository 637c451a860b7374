import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ensurePrimaryConfig, PRIMARY_PLUGIN } from './primary-network.ts';

test('a node has one list to chain to; what agents made of it stays, under whatever name', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-net-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  ensurePrimaryConfig(dir);
  const [name = ''] = readdirSync(dir);
  const list = JSON.parse(readFileSync(join(dir, name), 'utf8')) as { name: string; plugins: unknown[] };
  assert.equal(list.name, 'culvert-network');
  assert.deepEqual(list.plugins, [{ type: PRIMARY_PLUGIN }]);

  const chained = JSON.stringify({ ...list, plugins: [...list.plugins, { type: 'istio-cni' }] });
  writeFileSync(join(dir, name), chained);
  renameSync(join(dir, name), join(dir, '02-istio-cni.conflist'));
  ensurePrimaryConfig(dir);
  assert.deepEqual(readdirSync(dir), ['02-istio-cni.conflist']);
  assert.equal(readFileSync(join(dir, '02-istio-cni.conflist'), 'utf8'), chained);
});
