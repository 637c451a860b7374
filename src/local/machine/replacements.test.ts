import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import {
  type Replaceable,
  type Replacement,
  readReplacements,
  replacementFor,
  replacementPaths,
  splitWords,
} from './replacements.ts';

const dir = mkdtempSync(join(tmpdir(), 'culvert-replace-'));
after(() => rmSync(dir, { recursive: true, force: true }));
mkdirSync(join(dir, 'bin'));
mkdirSync(join(dir, 'with blank'));
const peer = join(dir, 'bin/peer');
for (const path of [peer, join(dir, 'with blank/peer')]) {
  writeFileSync(path, '#!/bin/sh\n');
  chmodSync(path, 0o755);
}
const loose = join('/tmp', `${basename(dir)}-loose`);
writeFileSync(loose, '#!/bin/sh\n');
chmodSync(loose, 0o755);
after(() => rmSync(loose, { force: true }));
const plain = join(dir, 'bin/notes.txt');
writeFileSync(plain, '');
chmodSync(plain, 0o644);

const place = { path: `/nowhere:${join(dir, 'bin')}`, cwd: dir };
type Flags = Partial<Record<Replaceable, readonly string[]>>;
const read = (flags: Flags): Replacement[] =>
  readReplacements({ ztunnel: [], control: [], cni: [], ...flags }, place);

function refusal(flags: Flags): string {
  try {
    read(flags);
  } catch (error) {
    assert.ok(error instanceof MeshError);
    assert.equal(error.code, 'CONFIG_INVALID');
    return error.message;
  }
  assert.fail('it was accepted');
}

test('a command is found by path, from here, and in PATH; arguments stay', () => {
  assert.deepEqual(read({ ztunnel: [`${peer} proxy 'two words'`] }), [
    { program: 'ztunnel', argv: [peer, 'proxy', 'two words'] },
  ]);
  assert.deepEqual(read({ control: ['bin/peer --a=b'] }), [{ program: 'control', argv: [peer, '--a=b'] }]);
  assert.deepEqual(read({ cni: ['peer'] }), [{ program: 'cni', argv: [peer] }]);
  assert.deepEqual(read({ cni: [`"${dir}/with blank/peer" x`] })[0]?.argv, [`${dir}/with blank/peer`, 'x']);
});

test('for one node; the node goes before every node', () => {
  const all = read({ ztunnel: [`n2=${peer} only`, `${peer} every`] });
  assert.deepEqual(all[0], { program: 'ztunnel', node: 'n2', argv: [peer, 'only'] });
  assert.deepEqual(replacementFor(all, 'ztunnel', 'n2'), [peer, 'only']);
  assert.deepEqual(replacementFor(all, 'ztunnel', 'n1'), [peer, 'every']);
  assert.equal(replacementFor(all, 'cni', 'n1'), undefined);
  assert.equal(replacementFor(read({ ztunnel: [`n2=${peer}`] }), 'ztunnel', 'n1'), undefined);
  assert.deepEqual(replacementPaths(all), [join(dir, 'bin')]);
  symlinkSync(peer, join(dir, 'with blank/link'));
  assert.deepEqual(
    replacementPaths(read({ cni: [`'${dir}/with blank/link'`] })),
    [join(dir, 'with blank'), join(dir, 'bin')],
    'where a link leads must be visible, too',
  );
});

test('what cannot run is refused before anything starts', () => {
  assert.match(refusal({ ztunnel: ['/no/such/file'] }), /--ztunnel .*\/no\/such\/file does not exist/);
  assert.match(refusal({ ztunnel: ['no-such-program'] }), /not in PATH/);
  assert.match(refusal({ cni: [plain] }), /may not be executed: .*notes\.txt/);
  assert.match(refusal({ cni: [dir] }), /is no file/);
  assert.match(refusal({ ztunnel: [loose] }), /lies in \/tmp, .*directory of its own/);
  assert.match(refusal({ ztunnel: [''] }), /is empty/);
  assert.match(refusal({ ztunnel: ['n2='] }), /is empty/);
  assert.match(refusal({ ztunnel: ["peer 'open"] }), /unclosed '/);
  assert.match(refusal({ control: [`n1=${peer}`] }), /one control plane/);
  assert.match(refusal({ ztunnel: [peer, peer] }), /twice for every node/);
  assert.match(refusal({ ztunnel: [`n1=${peer}`, `n1=${peer}`] }), /twice for node n1/);
});

test('words are split as a shell splits them', () => {
  for (const [text, words] of [
    ['a  b\tc', ['a', 'b', 'c']],
    [`a'b c'd`, ['ab cd']],
    [`"a \\" b" ''`, ['a " b', '']],
    ['a\\ b', ['a b']],
    [`'a\\b'`, ['a\\b']],
    ['  ', []],
  ] as const)
    assert.deepEqual(splitWords(text, 'cni'), words, text);
});
