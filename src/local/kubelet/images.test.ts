// Which program an image names.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { parseImageTable, watchImageTable } from './image-table.ts';
import { resolveImage } from './images.ts';

const resolve = (
  image: string,
  more: { command?: string[]; args?: string[] } = {},
  table = parseImageTable('', 'f'),
) => resolveImage({ name: 'c', image, ...more }, { root: '/nowhere', node: '/node', table: () => table });

test('a table of programs: a command line, or its parts; command replaces, args follow', () => {
  const table = parseImageTable(
    'billing: python3 /srv/billing.py --fast\nstore:\n  command: [/srv/store, -v]\n  workingDir: /srv\n  env: {PORT: "80"}\n',
    'images.yaml',
  );
  const args = ['one', 'two words'];
  assert.deepEqual(resolve('local/billing', { args }, table), {
    kind: 'command',
    argv: ['/bin/sh', '-c', 'exec python3 /srv/billing.py --fast "$@"', 'billing', 'one', 'two words'],
  });
  const store = { kind: 'command', workingDir: '/srv', env: { PORT: '80' } };
  assert.deepEqual(resolve('local/store:v2', {}, table), { ...store, argv: ['/srv/store', '-v'] });
  assert.deepEqual(resolve('local/store', { command: ['/bin/true'], args: ['x'] }, table), {
    ...store,
    argv: ['/bin/true', 'x'],
  });
});

test('everything else is refused with the way out', () => {
  for (const image of ['nginx', 'nginx:1', 'docker.io/local/x', 'local/Big', 'local/../../etc', 'local/']) {
    const answer = resolve(image);
    assert.ok(
      answer.kind === 'unknown-image' && answer.message.includes(`"${image}" cannot be pulled`),
      image,
    );
  }
  const absent = resolve('local/absent');
  assert.ok(absent.kind === 'unknown-image' && /--image absent=COMMAND/.test(absent.message));
  assert.deepEqual(resolve('local/shell', { args: ['-c', 'true'] }), {
    kind: 'command',
    argv: ['/bin/sh', '-c', 'true'],
  });
});

test('a faulty table names the entry', () => {
  for (const [text, named] of [
    ['- a', 'map of image names'],
    ['Big: x', '"Big"'],
    ['a: 1', 'a must be'],
    ['a: {command: x}', 'a.command'],
    ['a: {command: [x], workingDir: y}', 'a.workingDir'],
    ['a: {command: [x], env: {P: 80}}', 'a.env'],
    ['a: {command: [x], user: root}', '"user"'],
    ['a: {', 'f: '],
  ] as const)
    assert.throws(
      () => parseImageTable(text, 'f'),
      (error) =>
        error instanceof MeshError && error.code === 'CONFIG_INVALID' && error.message.includes(named),
      text,
    );
});

test('the file is read again when it changes; --image counts before it', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-images-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'images.yaml');
  const table = watchImageTable(path, { mine: 'echo flag' });
  assert.deepEqual([...table().keys()], ['mine']);
  writeFileSync(path, 'mine: echo file\nother: echo file\n');
  assert.match(table().get('mine')?.argv[2] ?? '', /echo flag/);
  assert.ok(table().has('other'));
  writeFileSync(path, 'another-one: echo file\n');
  assert.deepEqual([...table().keys()].sort(), ['another-one', 'mine']);
});
