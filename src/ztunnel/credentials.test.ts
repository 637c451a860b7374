import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { rootSource, tokenSource } from './credentials.ts';

const dir = mkdtempSync(join(tmpdir(), 'culvert-credentials-'));
after(() => rmSync(dir, { recursive: true, force: true }));

test('roots: a path is read at each use, so a file may come later and may change', async () => {
  const path = join(dir, 'root-cert.pem');
  const read = rootSource(path);
  await assert.rejects(read(), /root certificate .*root-cert\.pem cannot be read: ENOENT/);
  writeFileSync(path, 'one');
  assert.equal(await read(), 'one');
  writeFileSync(path, 'two');
  assert.equal(await read(), 'two');
});

test('roots: PEM text stands for itself; SYSTEM is the trust store', async () => {
  const pem = '-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n';
  assert.equal(await rootSource(pem)(), pem);
  assert.match(await rootSource('SYSTEM')(), /^(-----BEGIN CERTIFICATE-----|$)/);
});

test('token: a file is read at each use, without its newline; anything else is the token itself', async () => {
  const path = join(dir, 'token');
  writeFileSync(path, 'first\n');
  const read = tokenSource(path);
  assert.equal(await read?.(), 'first');
  writeFileSync(path, 'rotated\n');
  assert.equal(await read?.(), 'rotated');
  assert.equal(await tokenSource('literal')?.(), 'literal');
  assert.equal(await tokenSource('not/a/file')?.(), 'not/a/file');
});
