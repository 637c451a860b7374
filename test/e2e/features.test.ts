// Runs the evidence of every feature against one mesh, as `npm run see` does one by one.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ALL_EVIDENCE } from './evidence/all.ts';
import { type Mesh, projectDir, startMesh } from './harness.ts';

let mesh: Mesh | undefined;
before(async () => {
  mesh = await startMesh();
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
