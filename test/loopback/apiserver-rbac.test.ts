// Roles enforced over real TLS: certificates, tokens, impersonation, reviews, and what is written down of refusals.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger } from '#telemetry/log.ts';
import { type ApiRig, type CallOptions, type Json, withApiServer } from './apiserver-rig.ts';

const PODS = '/api/v1/namespaces/default/pods';
const MAPS = '/api/v1/namespaces/default/configmaps';
const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const REVIEWS = '/apis/authorization.k8s.io/v1';

async function made(rig: ApiRig, path: string, body: Json): Promise<Json> {
  const answer = await rig.call('POST', path, { body });
  assert.equal(answer.code, 201, answer.text);
  return answer.body;
}

async function asUser(rig: ApiRig, user: string, ...groups: string[]): Promise<CallOptions> {
  const { certPem, keyPem } = await rig.server.credentials(user, groups);
  return { as: { cert: certPem, key: keyPem } };
}

/** A role and a binding of one name in the default namespace. */
async function grant(rig: ApiRig, name: string, rules: Json[], subject: Json): Promise<void> {
  await made(rig, `${RBAC}/namespaces/default/roles`, { metadata: { name }, rules });
  await made(rig, `${RBAC}/namespaces/default/rolebindings`, {
    metadata: { name },
    subjects: [subject],
    roleRef: { kind: 'Role', name },
  });
}

const BOB = { kind: 'User', name: 'bob' };

test('a refusal is the server’s own sentence, with the resource in its details', async () => {
  await withApiServer(async (rig) => {
    const bob = await asUser(rig, 'bob', 'devs');
    const refused = await rig.call('GET', '/api/v1/namespaces/y/pods', bob);
    assert.equal(refused.code, 403);
    assert.match(
      refused.body.message,
      /^pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "y"/,
    );
    assert.deepEqual(refused.body.details, { kind: 'pods' });
    assert.equal(refused.body.reason, 'Forbidden');
    const scale = await rig.call('GET', '/apis/apps/v1/namespaces/y/deployments/d/scale', bob);
    assert.match(
      scale.body.message,
      /^deployments\.apps "d" is forbidden: User "bob" cannot get resource "deployments\/scale" in API group "apps"/,
    );
    assert.deepEqual(scale.body.details, { name: 'd', group: 'apps', kind: 'deployments' });
    const path = await rig.call('GET', '/metrics', bob);
    assert.match(path.body.message, /^forbidden: User "bob" cannot get path "\/metrics"/);
    // What does not exist is not told to those who may not ask.
    assert.equal((await rig.call('GET', '/apis/none.example/v1/things', bob)).code, 403);
    assert.equal((await rig.call('GET', '/apis', bob)).code, 200);
  });
});

test('a role holds from the moment it is bound, and no longer than that', async () => {
  await withApiServer(async (rig) => {
    const bob = await asUser(rig, 'bob');
    assert.equal((await rig.call('GET', PODS, bob)).code, 403);
    await grant(rig, 'pods', [{ apiGroups: [''], resources: ['pods'], verbs: ['list', 'create'] }], BOB);
    assert.equal((await rig.call('GET', PODS, bob)).code, 200);
    assert.equal((await rig.call('GET', `${PODS}?watch=1`, bob)).code, 403);
    assert.equal((await rig.call('GET', '/api/v1/pods', bob)).code, 403);
    await rig.call('DELETE', `${RBAC}/namespaces/default/rolebindings/pods`);
    assert.equal((await rig.call('GET', PODS, bob)).code, 403);
  });
});

test('a service account is a subject: by name, and by the group of its namespace', async () => {
  await withApiServer(async (rig) => {
    await made(rig, '/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'app' } });
    const { body } = await rig.call('POST', '/api/v1/namespaces/default/serviceaccounts/app/token', {
      body: {},
    });
    const app = { as: { token: body.status.token as string } };
    assert.equal((await rig.call('GET', MAPS, app)).code, 403);
    const rules = [{ apiGroups: [''], resources: ['configmaps'], verbs: ['list'] }];
    await grant(rig, 'named', rules, { kind: 'ServiceAccount', name: 'app', namespace: 'default' });
    assert.equal((await rig.call('GET', MAPS, app)).code, 200);
    await rig.call('DELETE', `${RBAC}/namespaces/default/rolebindings/named`);
    assert.equal((await rig.call('GET', MAPS, app)).code, 403);
    await grant(rig, 'group', rules, { kind: 'Group', name: 'system:serviceaccounts:default' });
    assert.equal((await rig.call('GET', MAPS, app)).code, 200);
  });
});

test('server-side apply of something new needs create as well as patch', async () => {
  await withApiServer(async (rig) => {
    const bob = await asUser(rig, 'bob');
    await grant(rig, 'patcher', [{ apiGroups: [''], resources: ['configmaps'], verbs: ['patch'] }], BOB);
    const apply = (name: string): Promise<{ code: number; body: Json }> =>
      rig.call('PATCH', `${MAPS}/${name}?fieldManager=m`, {
        ...bob,
        body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { a: 'b' } },
        type: 'application/apply-patch+yaml',
      });
    const refused = await apply('new');
    assert.equal(refused.code, 403);
    assert.match(refused.body.message, /cannot create resource "configmaps"/);
    await made(rig, MAPS, { metadata: { name: 'there' } });
    assert.equal((await apply('there')).code, 200);
  });
});

test('escalation is refused over HTTP too, also by patch', async () => {
  await withApiServer(async (rig) => {
    const bob = await asUser(rig, 'bob');
    const group = 'rbac.authorization.k8s.io';
    await grant(
      rig,
      'roles',
      [{ apiGroups: [group], resources: ['roles'], verbs: ['create', 'patch'] }],
      BOB,
    );
    const rules = [{ apiGroups: [''], resources: ['secrets'], verbs: ['get'] }];
    const own = `${RBAC}/namespaces/default/roles`;
    const refused = await rig.call('POST', own, { ...bob, body: { metadata: { name: 'x' }, rules } });
    assert.equal(refused.code, 403);
    assert.match(
      refused.body.message,
      /attempting to grant RBAC permissions not currently held:\n\{APIGroups:\[""\], Resources:\["secrets"\], Verbs:\["get"\]\}$/,
    );
    const type = 'application/merge-patch+json';
    assert.equal((await rig.call('PATCH', `${own}/roles`, { ...bob, body: { rules }, type })).code, 403);
    assert.equal((await rig.call('POST', own, { body: { metadata: { name: 'x' }, rules } })).code, 201);
  });
});

test('kubectl --as: a user, groups and service accounts, where the caller may impersonate them', async () => {
  await withApiServer(async (rig) => {
    const whoami = async (headers: Record<string, string | string[]>, as: CallOptions = {}): Promise<Json> =>
      (
        await rig.call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {
          ...as,
          body: {},
          headers,
        })
      ).body;
    assert.deepEqual(
      (await whoami({ 'impersonate-user': 'bob', 'impersonate-group': ['a', 'b'] })).status.userInfo,
      {
        username: 'bob',
        groups: ['a', 'b', 'system:authenticated'],
      },
    );
    const account = await whoami({ 'impersonate-user': 'system:serviceaccount:shop:web' });
    assert.deepEqual(account.status.userInfo.groups, [
      'system:serviceaccounts',
      'system:serviceaccounts:shop',
      'system:authenticated',
    ]);
    // The one spoken for is judged, not the administrator.
    assert.equal((await rig.call('GET', PODS, { headers: { 'impersonate-user': 'bob' } })).code, 403);
    const alice = await asUser(rig, 'alice');
    const refused = await whoami({ 'impersonate-user': 'bob' }, alice);
    assert.equal(refused.code, 403);
    assert.match(
      refused.message,
      /^users "bob" is forbidden: User "alice" cannot impersonate resource "users" in API group "" at the cluster scope/,
    );
    await made(rig, `${RBAC}/clusterroles`, {
      metadata: { name: 'as-bob' },
      rules: [{ apiGroups: [''], resources: ['users'], resourceNames: ['bob'], verbs: ['impersonate'] }],
    });
    await made(rig, `${RBAC}/clusterrolebindings`, {
      metadata: { name: 'as-bob' },
      subjects: [{ kind: 'User', name: 'alice' }],
      roleRef: { kind: 'ClusterRole', name: 'as-bob' },
    });
    assert.equal((await whoami({ 'impersonate-user': 'bob' }, alice)).status.userInfo.username, 'bob');
    for (const headers of [
      { 'impersonate-user': 'eve' },
      { 'impersonate-user': 'bob', 'impersonate-group': 'system:masters' },
      { 'impersonate-user': 'bob', 'impersonate-uid': '1' },
      { 'impersonate-user': 'bob', 'impersonate-extra-scopes': 'all' },
    ])
      assert.equal((await whoami(headers, alice)).code, 403, JSON.stringify(headers));
    assert.equal((await whoami({ 'impersonate-group': 'system:masters' }, alice)).code, 400);
  });
});

test('the reviews answer as requests would be', async () => {
  await withApiServer(async (rig) => {
    const bob = await asUser(rig, 'bob');
    await grant(rig, 'pods', [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }], BOB);
    const resourceAttributes = { namespace: 'default', verb: 'get', resource: 'pods' };
    const ask = async (plural: string, spec: Json, as: CallOptions = {}): Promise<Json> => {
      const inNamespace = plural.startsWith('local') ? '/namespaces/default' : '';
      return (await rig.call('POST', `${REVIEWS}${inNamespace}/${plural}`, { ...as, body: { spec } })).body;
    };
    const self = await ask('selfsubjectaccessreviews', { resourceAttributes }, bob);
    assert.equal(self.status.allowed, true);
    assert.equal(
      self.status.reason,
      'RBAC: allowed by RoleBinding "pods/default" of Role "pods" to User "bob"',
    );
    const listing = { ...resourceAttributes, verb: 'list' };
    assert.equal(
      (await ask('selfsubjectaccessreviews', { resourceAttributes: listing }, bob)).status.allowed,
      false,
    );
    assert.equal(
      (await ask('subjectaccessreviews', { user: 'bob', resourceAttributes })).status.allowed,
      true,
    );
    assert.equal(
      (await ask('localsubjectaccessreviews', { user: 'bob', resourceAttributes })).status.allowed,
      true,
    );
    const path = { path: '/version', verb: 'get' };
    const groups = ['system:authenticated'];
    assert.equal(
      (await ask('subjectaccessreviews', { user: 'x', groups, nonResourceAttributes: path })).status.allowed,
      true,
    );
    const elsewhere = { ...resourceAttributes, namespace: 'other' };
    assert.match(
      (await ask('localsubjectaccessreviews', { user: 'bob', resourceAttributes: elsewhere })).message,
      /must match metadata\.namespace/,
    );
    assert.match((await ask('subjectaccessreviews', { user: 'bob' })).message, /exactly one of/);
    assert.match(
      (await ask('subjectaccessreviews', { resourceAttributes })).message,
      /at least one of user or group/,
    );
    assert.equal((await ask('subjectaccessreviews', { user: 'x', resourceAttributes }, bob)).code, 403);

    const rules = await ask('selfsubjectrulesreviews', { namespace: 'default' }, bob);
    assert.equal(rules.status.incomplete, false);
    assert.ok(
      rules.status.resourceRules.some(
        (rule: Json) => rule.resources.includes('pods') && rule.verbs.includes('get'),
      ),
    );
    assert.ok(rules.status.nonResourceRules.some((rule: Json) => rule.nonResourceURLs.includes('/version')));
    const admin = await ask('selfsubjectrulesreviews', { namespace: 'default' });
    assert.deepEqual(admin.status.resourceRules, [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }]);
  });
});

test('every refusal is a line in the log and an entry of /debug/access, beside what was granted', async () => {
  let logged = '';
  const log = createLogger('apiserver', {
    format: 'plain',
    level: 'info',
    write: (line) => {
      logged += line;
    },
  });
  await withApiServer(
    async (rig) => {
      const bob = await asUser(rig, 'bob');
      await rig.call('GET', PODS, bob);
      await rig.call('GET', PODS, bob);
      await rig.call('GET', MAPS);
      assert.equal(
        logged.match(/access denied\tuser="bob" verb="list" times=\d why="User \\"bob\\" cannot list/g)
          ?.length,
        2,
      );
      assert.equal((await rig.call('GET', '/debug/access', bob)).code, 403);
      const { body } = await rig.call('GET', '/debug/access');
      assert.equal(body.deniedTotal, 3);
      const denied = body.denied.find((entry: Json) => entry.resource === 'pods');
      assert.equal(denied.count, 2);
      assert.equal(denied.namespace, 'default');
      const granted = body.granted.find((entry: Json) => entry.resource === 'configmaps');
      assert.deepEqual(granted, {
        user: 'kubernetes-admin',
        verb: 'list',
        group: '',
        resource: 'configmaps',
        count: 1,
      });
    },
    { log },
  );
});

test('a kubelet with its certificate: its own pods only, and tokens bound to them', async () => {
  await withApiServer(async (rig) => {
    const n1 = await asUser(rig, 'system:node:n1', 'system:nodes');
    assert.equal(
      (await rig.call('POST', '/api/v1/nodes', { ...n1, body: { metadata: { name: 'n1' } } })).code,
      201,
    );
    const other = await rig.call('POST', '/api/v1/nodes', { ...n1, body: { metadata: { name: 'n2' } } });
    assert.equal(other.code, 403);
    assert.match(other.body.message, /node "n1" is not allowed to make nodes of another name/);
    const account = '/api/v1/namespaces/default/serviceaccounts';
    await made(rig, account, { metadata: { name: 'app' } });
    const spec = {
      containers: [{ name: 'main', image: 'local/shell' }],
      serviceAccountName: 'app',
      nodeName: 'n1',
    };
    await made(rig, PODS, { metadata: { name: 'p' }, spec });
    const unbound = await rig.call('POST', `${account}/app/token`, { ...n1, body: {} });
    assert.equal(unbound.code, 403);
    const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: 'p' };
    const bound = await rig.call('POST', `${account}/app/token`, {
      ...n1,
      body: { spec: { boundObjectRef } },
    });
    assert.equal(bound.code, 201, bound.text);
    assert.equal(
      (await rig.call('GET', `${PODS}?fieldSelector=spec.nodeName%3Dn1`, n1)).body.items.length,
      1,
    );
    assert.equal((await rig.call('GET', PODS, n1)).code, 403);
  });
});
