import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hiddenPaths, keepPathsFor, quote } from './node-root.ts';

test('only paths below directories of the node are bound one by one', () => {
  assert.deepEqual(
    hiddenPaths([
      '/work/culvert',
      '/tmp/culvert',
      '/opt/node/bin',
      '/home/me',
      '/var/lib/x',
      '/root/src',
      '/',
    ]),
    ['/tmp/culvert', '/opt/node/bin', '/var/lib/x', '/root/src'],
  );
});

test('a Node binary outside the project is kept as well', () => {
  assert.deepEqual(keepPathsFor('/p', '/p/node_modules/n/bin/node'), ['/p']);
  assert.deepEqual(keepPathsFor('/p', '/opt/node/bin/node'), ['/p', '/opt/node/bin']);
  assert.deepEqual(keepPathsFor('/p', '/p2/bin/node'), ['/p', '/p2/bin']);
  assert.deepEqual(keepPathsFor('/p', '/p/bin/node', ['/x/y', '/p/z', '/x/y']), ['/p', '/x/y']);
  assert.deepEqual(keepPathsFor('/x/p', '/x/p/bin/node', ['/x']), ['/x']);
});

test('quoting survives quotes', () => {
  assert.equal(quote("it's"), `'it'\\''s'`);
});
