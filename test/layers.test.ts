// Holds the layers of docs/ARCHITECTURE.md: a folder imports downwards only, along the edges written here.

import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '..');

/** folder → folders it may import; whatever those reach may be imported too. */
const EDGES: Readonly<Record<string, readonly string[]>> = {
  base: [],
  net: ['base'],
  model: ['net'],
  telemetry: ['model'],
  linux: ['model'],
  proto: ['model'],
  tls: ['telemetry', 'linux'],
  dns: ['telemetry', 'linux'],
  grpc: ['proto', 'tls'],
  hbone: ['tls'],
  xds: ['grpc'],
  k8s: ['proto', 'tls'],
  ztunnel: ['hbone', 'xds', 'dns', 'tls'],
  control: ['k8s', 'xds', 'tls'],
  cni: ['k8s', 'linux'],
  cli: ['k8s', 'model', 'telemetry'],
  local: ['k8s', 'model', 'telemetry', 'linux'],
};

/** Packages that only these folders may load, each with its reason. */
const GUARDED_PACKAGES: Readonly<Record<string, readonly string[]>> = {
  koffi: ['linux'], // native calls live in one place
  '@connectrpc/connect': [], // too heavy (docs/decisions/0002, 0018); tests compare with it
  '@connectrpc/connect-node': [],
  '@peculiar/x509': [], // 8 MB in every process (docs/decisions/0003); tests compare with it
  jose: ['local'],
  '@bufbuild/cel': ['local'],
  '@bufbuild/cel/ext': ['local'],
  ws: ['local'],
};

function reach(folder: string, seen = new Set<string>()): Set<string> {
  for (const below of EDGES[folder] ?? []) {
    if (!seen.has(below)) {
      seen.add(below);
      reach(below, seen);
    }
  }
  return seen;
}

interface Import {
  readonly file: string;
  readonly folder: string;
  readonly specifier: string;
}

function importsBelow(pattern: string): Import[] {
  const found: Import[] = [];
  for (const file of globSync(pattern, { cwd: root })) {
    if (file.includes('/gen/')) continue;
    const text = readFileSync(join(root, file), 'utf8');
    for (const match of text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) {
      found.push({ file, folder: file.split('/')[1] as string, specifier: match[1] as string });
    }
  }
  return found;
}

const sources = importsBelow('src/**/*.ts').filter(({ file }) => !file.endsWith('.test.ts'));

test('every folder of src is a layer with a place in the order', () => {
  const folders = new Set(sources.map(({ folder }) => folder));
  assert.deepEqual(
    [...folders].filter((folder) => !(folder in EDGES)),
    [],
  );
});

test('folders import downwards only, and across folders by #folder/file.ts', () => {
  const wrong: string[] = [];
  for (const { file, folder, specifier } of sources) {
    if (specifier.startsWith('..') && join(file, '..', specifier).split('/')[1] !== folder) {
      wrong.push(`${file}: ${specifier} leaves the folder by a relative path`);
    }
    const target = /^#([a-z0-9]+)\//.exec(specifier)?.[1];
    if (target !== undefined && target !== folder && !reach(folder).has(target)) {
      wrong.push(`${file}: ${folder} may not import ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test('programs do not import one another', () => {
  const programs = ['ztunnel', 'control', 'cni', 'cli', 'local'];
  for (const program of programs) {
    const reached = reach(program);
    assert.deepEqual(
      programs.filter((other) => other !== program && reached.has(other)),
      [],
      program,
    );
  }
});

test('guarded packages are loaded only where their weight or danger belongs', () => {
  const wrong: string[] = [];
  for (const { file, folder, specifier } of sources) {
    const allowed = GUARDED_PACKAGES[specifier];
    if (allowed !== undefined && !allowed.includes(folder)) wrong.push(`${file}: ${specifier}`);
  }
  assert.deepEqual(wrong, []);
});

test('only proto/ sees generated code', () => {
  const wrong = sources.filter(
    ({ folder, specifier }) => folder !== 'proto' && /(^|\/)gen\/|_pb\.js$/.test(specifier),
  );
  assert.deepEqual(
    wrong.map(({ file, specifier }) => `${file}: ${specifier}`),
    [],
  );
});

test('process.env is read in bin/ only', () => {
  const wrong: string[] = [];
  for (const file of globSync('src/**/*.ts', { cwd: root })) {
    if (file.endsWith('.test.ts')) continue;
    // Comments may speak of it.
    const code = readFileSync(join(root, file), 'utf8').replace(/^\s*(\/\/|\*|\/\*).*$/gm, '');
    if (code.includes('process.env')) wrong.push(file);
  }
  assert.deepEqual(wrong, []);
});

test('no file is longer than 600 lines', () => {
  const long: string[] = [];
  for (const file of globSync('{src,bin,tools}/**/*.ts', { cwd: root })) {
    if (file.includes('/gen/')) continue;
    const lines = readFileSync(join(root, file), 'utf8').split('\n').length;
    if (lines > 600) long.push(`${file}: ${lines}`);
  }
  assert.deepEqual(long, []);
});

/** What is loaded when a file is: not types, and not what is imported on demand. */
function loadedWith(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  const text = readFileSync(join(root, file), 'utf8');
  for (const [, isType, specifier] of text.matchAll(
    /^(?:import|export) (type )?(?:[^;]*? from )?'([^']+)';/gm,
  )) {
    if (isType !== undefined) continue;
    const name = specifier as string;
    if (name.startsWith('#')) loadedWith(`src/${name.slice(1)}`, seen);
    else if (name.startsWith('.')) loadedWith(join(file, '..', name), seen);
    else seen.add(name);
  }
  return seen;
}

test('the node proxy is not burdened with what few of its kind need', () => {
  const loaded = loadedWith('bin/ztunnel.ts');
  const burdens = [
    'yaml',
    '@peculiar/x509',
    'reflect-metadata',
    '@connectrpc/connect',
    '@connectrpc/connect-node',
  ];
  assert.deepEqual(
    burdens.filter((name) => loaded.has(name)),
    [],
  );
  // Several threads are loaded for when there are to be several.
  assert.deepEqual(
    [...loaded].filter((file) => file.startsWith('src/ztunnel/workers/')),
    [],
  );
  // The walk does see packages and files.
  assert.ok(loaded.has('koffi') && loaded.has('src/ztunnel/owner.ts'));
});
