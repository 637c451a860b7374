import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ERROR_CODES } from './error-codes.ts';

test('docs/ERRORS.md explains every code, and no other', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/ERRORS.md'), 'utf8');
  const documented = [...page.matchAll(/^\| `([A-Z0-9_]+)` \|/gm)].map((match) => match[1]);
  assert.deepEqual(documented.toSorted(), [...ERROR_CODES].toSorted());
});
