import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { removeNodeVolume } from './node-volumes.ts';

test('a volume goes with all that is in it, and nothing else, whatever it is called', async (t) => {
  const state = mkdtempSync(join(tmpdir(), 'culvert-volumes-'));
  t.after(() => rmSync(state, { recursive: true, force: true }));
  const volumes = join(state, 'nodes/n1/volumes');
  for (const name of ['pvc-a', 'pvc-b']) {
    mkdirSync(join(volumes, name, 'deep'), { recursive: true });
    writeFileSync(join(volumes, name, 'deep/file'), 'x');
  }
  await removeNodeVolume(state, 'n1', 'pvc-a');
  await removeNodeVolume(state, 'n1', 'pvc-a');
  assert.equal(existsSync(join(volumes, 'pvc-a')), false);
  for (const [node, name] of [
    ['n1', '..'],
    ['n1', '../volumes/pvc-b'],
    ['../nodes/n1', 'pvc-b'],
    ['n1', ''],
  ] as const)
    await assert.rejects(removeNodeVolume(state, node, name), /no volume can be called/);
  assert.ok(existsSync(join(volumes, 'pvc-b/deep/file')));
});
