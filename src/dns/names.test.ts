// Aliases, letter by letter from ztunnel.md §10.2.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aliasesOf, kubernetesSearchDomains, withWildcards } from './names.ts';

const SEARCH = kubernetesSearchDomains('shop', 'cluster.local');
const names = (name: string, search: readonly string[] = []): string[] =>
  aliasesOf(name, 'shop', 'cluster.local', search).map((alias) => alias.name);

test('short names are expanded by their number of labels', () => {
  assert.deepEqual(names('web'), ['web', 'web.shop.svc.cluster.local']);
  assert.deepEqual(names('web.bank'), [
    'web.bank',
    'web.bank.svc.cluster.local',
    'web.bank.shop.svc.cluster.local',
  ]);
  assert.deepEqual(names('web.bank.svc'), [
    'web.bank.svc',
    'web.bank.svc.cluster.local',
    'web.bank.svc.svc.cluster.local',
  ]);
  assert.deepEqual(names('pod.web.bank'), ['pod.web.bank', 'pod.web.bank.svc.cluster.local']);
  assert.deepEqual(names('pod.web.bank.svc'), ['pod.web.bank.svc', 'pod.web.bank.svc.cluster.local']);
  assert.deepEqual(names('a.b.c.d'), ['a.b.c.d']);
  assert.deepEqual(names('a.b.c.d.svc'), ['a.b.c.d.svc']);
  assert.deepEqual(names(''), ['']);
});

test('search domains are taken off, and the rest expanded; a name that is one is left alone', () => {
  assert.deepEqual(SEARCH, ['shop.svc.cluster.local', 'svc.cluster.local', 'cluster.local']);
  const aliases = aliasesOf('example.com.shop.svc.cluster.local', 'shop', 'cluster.local', SEARCH);
  assert.deepEqual(
    aliases.map(({ name, stripped }) => [name, stripped]),
    [
      ['example.com.shop.svc.cluster.local', undefined],
      ['example.com', 'example.com'],
      ['example.com.svc.cluster.local', 'example.com'],
      // The longer forms of these two are the name itself again.
      ['example.com.shop', 'example.com.shop'],
      ['example.com.shop.svc', 'example.com.shop.svc'],
    ],
  );
  assert.deepEqual(names('cluster.local', ['cluster.local']), [
    'cluster.local',
    'cluster.local.svc.cluster.local',
    'cluster.local.shop.svc.cluster.local',
  ]);
});

test('wildcards from the nearest; the last label is never one', () => {
  assert.deepEqual(withWildcards('a.b.c'), ['a.b.c', '*.b.c', '*.c']);
  assert.deepEqual(withWildcards('a'), ['a']);
  assert.deepEqual(withWildcards(''), ['']);
});
