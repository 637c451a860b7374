// Random patches of random objects, with what Kubernetes' own library makes of them (tools/apply-oracle).

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import type { JsonObject } from './object.ts';
import { builtInSchema } from './schema-bundle.ts';
import { StatusError } from './status.ts';
import { strategicMerge } from './strategic.ts';
import { plain } from './strategic-text.ts';

interface Case {
  readonly kind: string;
  readonly target: JsonObject;
  readonly patch: JsonObject;
  readonly result?: JsonObject;
  readonly error?: string;
}

const cases = gunzipSync(readFileSync(join(import.meta.dirname, 'testdata/strategic-cases.jsonl.gz')))
  .toString()
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Case);

for (const [group, kind] of [
  ['', 'Service'],
  ['apps', 'Deployment'],
  ['', 'Pod'],
  ['', 'ConfigMap'],
] as const)
  test(`strategic merge: patches of ${kind} end as in Kubernetes`, () => {
    const schema = builtInSchema(group, 'v1', kind)!;
    const chosen = cases.map((each, line) => ({ ...each, line })).filter((each) => each.kind === kind);
    assert.ok(chosen.length >= 50);
    for (const { target, patch, result, error, line } of chosen) {
      const what = `line ${line + 1}: ${JSON.stringify(patch)}`;
      const given = JSON.stringify([target, patch]);
      try {
        const merged = strategicMerge(schema, target, patch);
        assert.equal(error, undefined, what);
        // Directives and nulls that the library leaves in place end with the decoding that follows it.
        assert.deepEqual(merged, plain(result), what);
        assert.equal(JSON.stringify([target, patch]), given, `${what}: arguments stay as they were`);
      } catch (thrown) {
        if (!(thrown instanceof StatusError)) throw thrown;
        assert.equal(thrown.message, error, what);
      }
    }
  });
