// What stands in two places, and has to be the same there.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { NODE_FLAGS } from './plan.ts';

test('the launcher starts programs with the flags that they have in the machine', () => {
  const launcher = readFileSync(join(import.meta.dirname, '../../../bin/culvert'), 'utf8');
  const [command = ''] = /^exec "\$node" .*$/m.exec(launcher) ?? [];
  assert.deepEqual(command.match(/--[\w-]+(=\w+)?/g), [...NODE_FLAGS]);
});
