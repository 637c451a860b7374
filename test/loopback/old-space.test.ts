import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { NODE_FLAGS } from '#local/machine/plan.ts';

// It was all that was known of a connection, and a full collection every 1,700 of them. What is left here is of Node's own sockets,
// at the application's end: 0.8 KB, where it was 2.
test('connections that come and go are not kept until a full collection', async (t) => {
  const child = join(import.meta.dirname, 'old-space-child.ts');
  const { stdout } = await promisify(execFile)(process.execPath, ['--no-deprecation', ...NODE_FLAGS, child]);
  t.diagnostic(`${stdout.trim()} bytes of each connection grew old`);
  assert.ok(Number(stdout) < 1400, stdout);
});
