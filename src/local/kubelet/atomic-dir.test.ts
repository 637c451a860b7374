import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeAtomically } from './atomic-dir.ts';

const file = (content: string | Uint8Array, mode = 0o644) => ({ content, mode });

test('files change together, vanish together, and stay when nothing changed', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-atomic-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const files = new Map([
    ['a', file('1')],
    ['sub/b', file('2')],
  ]);
  assert.equal(await writeAtomically(dir, files), true);
  assert.equal(readFileSync(join(dir, 'a'), 'utf8'), '1');
  assert.equal(readFileSync(join(dir, 'sub/b'), 'utf8'), '2');
  const first = readlinkSync(join(dir, '..data'));

  assert.equal(await writeAtomically(dir, files), false);
  assert.equal(readlinkSync(join(dir, '..data')), first);

  assert.equal(await writeAtomically(dir, new Map([['a', file(Buffer.from('3'), 0o600)]])), true);
  assert.equal(readFileSync(join(dir, 'a'), 'utf8'), '3');
  assert.equal(statSync(join(dir, 'a')).mode & 0o777, 0o600);
  assert.equal(
    await writeAtomically(dir, new Map([['a', file('3', 0o640)]])),
    true,
    'a mode is a change, too',
  );
  assert.deepEqual(
    readdirSync(dir).filter((name) => !name.startsWith('..')),
    ['a'],
  );
  assert.equal(readdirSync(dir).filter((name) => name.startsWith('..version_')).length, 1);
});
