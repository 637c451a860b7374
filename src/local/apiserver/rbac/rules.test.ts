// Expected decisions follow Kubernetes' RBAC documentation: rules only add, `*` and parts as written there.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { PolicyRule } from '#k8s/rbac.ts';
import { type Access, accessOf, refusalText } from './access.ts';
import { describeRules, missingRules, ruleAllows } from './rules.ts';

const ask = (line: string): Access => {
  const [method = '', url = ''] = line.split(' ');
  const [path = '', query = ''] = url.split('?');
  return accessOf(method, path, new URLSearchParams(query));
};

const rule = (verbs: string, groups: string, resources: string, names?: string): PolicyRule => ({
  verbs: verbs.split(','),
  apiGroups: groups.split(','),
  resources: resources.split(','),
  ...(names === undefined ? {} : { resourceNames: names.split(',') }),
});

const IN_SHOP = '/api/v1/namespaces/shop';

test('what a request asks for', () => {
  const cases: [string, Partial<Record<string, string>>][] = [
    [`GET ${IN_SHOP}/pods`, { verb: 'list', resource: 'pods', namespace: 'shop', name: '' }],
    [`GET ${IN_SHOP}/pods?watch=true`, { verb: 'watch' }],
    [`GET ${IN_SHOP}/pods?watch=1&fieldSelector=metadata.name%3Dp`, { verb: 'watch', name: 'p' }],
    [`GET ${IN_SHOP}/pods?fieldSelector=metadata.name!%3Dp`, { verb: 'list', name: '' }],
    [`GET ${IN_SHOP}/pods/p`, { verb: 'get', name: 'p', subresource: '' }],
    [`HEAD ${IN_SHOP}/pods/p`, { verb: 'get', name: 'p' }],
    [`GET ${IN_SHOP}/pods/p/log?follow=true`, { verb: 'get', name: 'p', subresource: 'log' }],
    [`POST ${IN_SHOP}/pods`, { verb: 'create' }],
    [`POST ${IN_SHOP}/pods/p/exec`, { verb: 'create', subresource: 'exec' }],
    [`PUT ${IN_SHOP}/pods/p/status`, { verb: 'update', subresource: 'status' }],
    [`PATCH /apis/apps/v1/namespaces/shop/deployments/d/scale`, { verb: 'patch', group: 'apps' }],
    [`DELETE ${IN_SHOP}/pods/p`, { verb: 'delete' }],
    [`DELETE ${IN_SHOP}/pods`, { verb: 'deletecollection' }],
    ['GET /api/v1/namespaces/shop', { verb: 'get', resource: 'namespaces', namespace: 'shop', name: 'shop' }],
    ['PUT /api/v1/namespaces/shop/finalize', { resource: 'namespaces', subresource: 'finalize' }],
    ['GET /api/v1/nodes', { verb: 'list', resource: 'nodes', namespace: '' }],
    ['GET /healthz', { kind: 'path', verb: 'get', path: '/healthz' }],
    ['GET /apis/apps/v1', { kind: 'path', verb: 'get', path: '/apis/apps/v1' }],
    ['POST /nothing', { kind: 'path', verb: 'create' }],
  ];
  for (const [line, expected] of cases) {
    const access = ask(line) as unknown as Record<string, string>;
    for (const [name, value] of Object.entries(expected))
      assert.equal(access[name], value, `${line}: ${name}`);
  }
});

test('what rules allow', () => {
  const cases: [PolicyRule, string, boolean][] = [
    [rule('get,list', '', 'pods'), `GET ${IN_SHOP}/pods`, true],
    [rule('get,list', '', 'pods'), `GET ${IN_SHOP}/pods?watch=1`, false],
    [rule('get', 'apps', 'pods'), `GET ${IN_SHOP}/pods/p`, false],
    [rule('get', '*', 'pods'), `GET ${IN_SHOP}/pods/p`, true],
    [rule('*', '', 'pods'), `DELETE ${IN_SHOP}/pods`, true],
    // A resource does not include its parts, `*` does.
    [rule('get', '', 'pods'), `GET ${IN_SHOP}/pods/p/log`, false],
    [rule('get', '', 'pods/log'), `GET ${IN_SHOP}/pods/p/log`, true],
    [rule('get', '', 'pods/log'), `GET ${IN_SHOP}/pods/p`, false],
    [rule('get', '', '*'), `GET ${IN_SHOP}/pods/p/log`, true],
    [rule('patch', 'apps', '*/scale'), 'PATCH /apis/apps/v1/namespaces/shop/deployments/d/scale', true],
    [rule('patch', 'apps', '*/scale'), 'PATCH /apis/apps/v1/namespaces/shop/deployments/d', false],
    [rule('patch', 'apps', '*/scale'), 'PATCH /apis/apps/v1/namespaces/shop/deployments/d/status', false],
    // "pods/*" is no form there is.
    [rule('get', '', 'pods/*'), `GET ${IN_SHOP}/pods/p/log`, false],
    [rule('get,list,create', '', 'configmaps', 'a,b'), `GET ${IN_SHOP}/configmaps/b`, true],
    [rule('get,list,create', '', 'configmaps', 'a,b'), `GET ${IN_SHOP}/configmaps/c`, false],
    [rule('get,list,create', '', 'configmaps', 'a,b'), `GET ${IN_SHOP}/configmaps`, false],
    [rule('list', '', 'configmaps', 'a'), `GET ${IN_SHOP}/configmaps?fieldSelector=metadata.name%3Da`, true],
    // Nobody knows the name before the object is made.
    [rule('create', '', 'configmaps', 'a'), `POST ${IN_SHOP}/configmaps`, false],
    [{ verbs: ['get'], nonResourceURLs: ['/healthz'] }, 'GET /healthz', true],
    [{ verbs: ['get'], nonResourceURLs: ['/healthz'] }, 'GET /healthz/etcd', false],
    [{ verbs: ['get'], nonResourceURLs: ['/apis/*'] }, 'GET /apis/apps/v1', true],
    [{ verbs: ['get'], nonResourceURLs: ['/apis/*'] }, 'GET /apis', false],
    [{ verbs: ['*'], nonResourceURLs: ['*'] }, 'GET /metrics', true],
    [{ verbs: ['*'], nonResourceURLs: ['*'] }, `GET ${IN_SHOP}/pods`, false],
    [rule('*', '*', '*'), 'GET /metrics', false],
  ];
  for (const [each, line, allowed] of cases)
    assert.equal(ruleAllows(each, ask(line)), allowed, `${JSON.stringify(each)} ${line}`);
});

test('the sentences of a refusal', () => {
  assert.equal(
    refusalText('x', ask('GET /api/v1/namespaces/y/pods')),
    'User "x" cannot list resource "pods" in API group "" in the namespace "y"',
  );
  assert.equal(
    refusalText('x', ask('PATCH /apis/apps/v1/namespaces/y/deployments/d/scale')),
    'User "x" cannot patch resource "deployments/scale" in API group "apps" in the namespace "y"',
  );
  assert.equal(
    refusalText('x', ask('DELETE /api/v1/nodes/n')),
    'User "x" cannot delete resource "nodes" in API group "" at the cluster scope',
  );
  assert.equal(refusalText('x', ask('GET /metrics')), 'User "x" cannot get path "/metrics"');
});

test('what is missing is told as the server tells it', () => {
  const missing = missingRules(
    [rule('get', '', 'pods')],
    [rule('get,list', '', 'pods,secrets'), { verbs: ['get'], nonResourceURLs: ['/x'] }],
  );
  assert.deepEqual(describeRules(missing), [
    '{APIGroups:[""], Resources:["pods"], Verbs:["list"]}',
    '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}',
    '{NonResourceURLs:["/x"], Verbs:["get"]}',
  ]);
  assert.deepEqual(missingRules([rule('*', '*', '*')], [rule('escalate,bind', 'a,*', '*,x/y', 'n')]), []);
  // A star also means what does not exist yet: naming everything there is does not hold it.
  assert.equal(missingRules([rule('get,list,watch', '', 'pods')], [rule('*', '', 'pods')]).length, 1);
});

const verbs = fc.subarray(['get', 'list', 'create', '*'], { minLength: 1 });
const groups = fc.subarray(['', 'apps', '*'], { minLength: 1 });
const resources = fc.subarray(['pods', 'pods/log', 'deployments', '*/scale', '*'], { minLength: 1 });
const names = fc.option(fc.subarray(['a', 'b'], { minLength: 1 }), { nil: undefined });
const anyRule: fc.Arbitrary<PolicyRule> = fc.oneof(
  fc.tuple(verbs, groups, resources, names).map(([v, g, r, n]) => ({
    verbs: v,
    apiGroups: g,
    resources: r,
    ...(n === undefined ? {} : { resourceNames: n }),
  })),
  fc
    .tuple(verbs, fc.subarray(['/a', '/a/*', '/a/b', '*'], { minLength: 1 }))
    .map(([v, urls]) => ({ verbs: v, nonResourceURLs: urls })),
);
const anyAccess: fc.Arbitrary<Access> = fc.oneof(
  fc.record({
    kind: fc.constant('resource' as const),
    verb: fc.constantFrom('get', 'list', 'create', 'delete'),
    group: fc.constantFrom('', 'apps', 'other'),
    resource: fc.constantFrom('pods', 'deployments', 'other'),
    subresource: fc.constantFrom('', 'log', 'scale'),
    name: fc.constantFrom('', 'a', 'b', 'c'),
    namespace: fc.constant('shop'),
    fields: fc.constant(new Map<string, string>()),
  }),
  fc.record({
    kind: fc.constant('path' as const),
    verb: fc.constantFrom('get', 'create'),
    path: fc.constantFrom('/a', '/a/', '/a/b', '/a/b/c', '/b'),
  }),
);

test('property: who holds all of some rules may do whatever they allow', () => {
  fc.assert(
    fc.property(
      fc.array(anyRule, { maxLength: 4 }),
      fc.array(anyRule, { maxLength: 3 }),
      anyAccess,
      (held, wanted, access) => {
        if (missingRules(held, wanted).length > 0) return;
        if (wanted.some((each) => ruleAllows(each, access)))
          assert.ok(held.some((each) => ruleAllows(each, access)));
      },
    ),
    { numRuns: 3_000 },
  );
});

test('property: rules hold themselves, and what was missing completes them', () => {
  fc.assert(
    fc.property(fc.array(anyRule, { maxLength: 4 }), fc.array(anyRule, { maxLength: 4 }), (held, wanted) => {
      assert.deepEqual(missingRules(wanted, wanted), []);
      assert.deepEqual(missingRules([...held, ...missingRules(held, wanted)], wanted), []);
    }),
  );
});

test('what is missing agrees with Kubernetes’ own library (tools/rbac-oracle)', () => {
  const cases = JSON.parse(readFileSync(join(import.meta.dirname, 'covers.golden.json'), 'utf8')) as Record<
    'held' | 'wanted' | 'missing',
    PolicyRule[]
  >[];
  assert.ok(
    cases.some(({ missing }) => missing.length === 0) && cases.some(({ missing }) => missing.length > 0),
  );
  const sorted = (rules: readonly PolicyRule[]): string[] =>
    rules
      .map(({ verbs, apiGroups, resources, resourceNames, nonResourceURLs }) =>
        JSON.stringify([verbs, apiGroups, resources, resourceNames, nonResourceURLs]),
      )
      .sort();
  for (const { held, wanted, missing } of cases)
    assert.deepEqual(sorted(missingRules(held, wanted)), sorted(missing), JSON.stringify({ held, wanted }));
});
