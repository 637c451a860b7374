// Expected texts come from Kubernetes' own code (tools/k8s-schema/golden.go).

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { canonicalQuantity } from './quantity.ts';

const golden = gunzipSync(readFileSync(join(import.meta.dirname, 'testdata/protobuf.tsv.gz')))
  .toString()
  .split('\n')
  .map((line) => line.split('\t') as [string, string, string])
  .filter(([kind]) => kind === 'quantity');

test('quantities are written as Kubernetes writes them', () => {
  assert.ok(golden.length > 400);
  for (const [, text, expected] of golden) {
    const canonical = canonicalQuantity(text);
    if (expected.startsWith('!')) assert.ok('error' in canonical, `${text} is refused: ${expected}`);
    else assert.deepEqual(canonical, { text: expected }, JSON.stringify(text));
  }
});

test('refusals carry the sentences of Kubernetes', () => {
  const shape = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
  assert.deepEqual(canonicalQuantity('1KiB'), { error: shape });
  assert.deepEqual(canonicalQuantity('1e'), { error: "unable to parse quantity's suffix" });
  assert.deepEqual(canonicalQuantity('.'), { error: 'unable to parse numeric part of quantity' });
});

test('any text has an answer soon, and a canonical one stays as it is', () => {
  const number = fc.stringMatching(/^[+-]?[0-9]{0,30}\.?[0-9]{0,30}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,12}$/);
  fc.assert(
    fc.property(fc.oneof(number, fc.string()), (text) => {
      const once = canonicalQuantity(text);
      if ('text' in once) assert.deepEqual(canonicalQuantity(once.text), once);
      else assert.ok(once.error.length > 20);
    }),
    { numRuns: 3000 },
  );
  assert.ok('error' in canonicalQuantity('9'.repeat(3_000_000)));
});
