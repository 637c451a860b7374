// Runs the evidence of every feature against one mesh, as `npm run see` does one by one. PROXY_ENV gives the node proxies
// other settings than their manifest's: PROXY_ENV='ZTUNNEL_WORKER_THREADS=2'.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ALL_EVIDENCE } from './evidence/all.ts';
import { type Mesh, projectDir, startMesh } from './harness.ts';
import { setProxyEnv } from './lib/rotate-root.ts';

let mesh: Mesh | undefined;
before(async () => {
  mesh = await startMesh();
  const settings = process.env.PROXY_ENV?.split(' ').filter((setting) => setting !== '') ?? [];
  if (settings.length > 0) await setProxyEnv(mesh, ...settings);
});
after(() => mesh?.stop());

for (const { id, title, show } of ALL_EVIDENCE) {
  test(`${id}: ${title}`, async (context) => {
    assert.ok(mesh);
    await show(mesh, (text) => context.diagnostic(text));
  });
}

test('docs/FEATURES.md points at a script for exactly the features that have one', () => {
  const page = readFileSync(join(projectDir, 'docs/FEATURES.md'), 'utf8');
  const pointed = [...page.matchAll(/`npm run see -- ([A-Z]\d+)`/g)].map((match) => match[1]);
  assert.deepEqual(new Set(pointed), new Set(ALL_EVIDENCE.map(({ id }) => id)));
  const scripts = readdirSync(join(import.meta.dirname, 'evidence')).filter((name) =>
    /^[a-z]\d+-/.test(name),
  );
  assert.equal(scripts.length, ALL_EVIDENCE.length);
  assert.ok(existsSync(join(projectDir, 'docs/FEATURES.md')));
});
