// What makes a bundle dear in memory and is not seen in the source.

import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { transform } from 'esbuild';

const root = join(import.meta.dirname, '..');

test('bundles are ASCII: with one character beyond, V8 keeps their text twice as large', async () => {
  const wrong: string[] = [];
  for (const file of globSync('{src,bin}/**/*.ts', { cwd: root })) {
    const text = readFileSync(join(root, file), 'utf8');
    if (file.endsWith('.test.ts') || file.includes('/golden/') || !/[^\0-\x7f]/.test(text)) continue;
    const { code } = await transform(text, { loader: 'ts', minifyWhitespace: true, legalComments: 'none' });
    if (/[^\0-\x7f]/.test(code)) wrong.push(file);
  }
  assert.deepEqual(
    wrong,
    [],
    'esbuild escapes such characters except in regular expressions: write \\u there',
  );
});
