// Decisions against a store: bindings, their changes, the default roles, kubelets, and who may hand rights on.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { aggregatedRules, type ClusterRole, type RbacSubject } from '#k8s/rbac.ts';
import { silentLogger } from '#telemetry/log.ts';
import type { WriteOptions } from '../admit.ts';
import { bootstrap } from '../bootstrap.ts';
import type { JsonObject } from '../object.ts';
import { createObject, updateObject } from '../objects.ts';
import { deleteObject } from '../removal.ts';
import { StatusError } from '../status.ts';
import { makeRig, podNamed, type Rig } from '../test-rig.ts';
import type { User } from '../user-info.ts';
import { type Access, accessOf } from './access.ts';
import { AccessControl } from './access-control.ts';
import { defaultRoles } from './default-roles.ts';
import { guardWrite } from './write-guard.ts';

const person = (name: string, ...groups: string[]): User => ({
  name,
  groups: [...groups, 'system:authenticated'],
});
const account = (namespace: string, name: string): User =>
  person(`system:serviceaccount:${namespace}:${name}`, 'system:serviceaccounts');

interface Cluster extends Rig {
  readonly control: AccessControl;
  may(user: User, line: string): boolean;
  /** Makes an object as somebody; the answer is the refusal's sentence, or undefined. */
  makeAs(user: User, plural: string, object: JsonObject): string | undefined;
}

function openCluster(): Cluster {
  const rig = makeRig();
  const control = new AccessControl({ store: rig.store, log: silentLogger });
  const asked = (line: string): Access => {
    const [method = '', url = ''] = line.split(' ');
    const [path = '', query = ''] = url.split('?');
    return accessOf(method, path, new URLSearchParams(query));
  };
  return {
    ...rig,
    control,
    may: (user, line) => control.decide(user, asked(line)).allowed,
    makeAs: (user, plural, object) => {
      const kind = rig.kind(plural);
      const options: WriteOptions = {
        dryRun: false,
        fieldManager: 'test',
        fieldValidation: 'Strict',
        warnings: [],
        user,
      };
      const guarded = {
        ...rig,
        guard: (write: Parameters<typeof guardWrite>[1]) => guardWrite(control, write),
      };
      const namespace = kind.namespaced ? 'default' : undefined;
      const { name } = object.metadata as { name: string };
      try {
        const stored = rig.store.get(kind.resource, namespace, name);
        if (stored === undefined) createObject(guarded, kind, namespace, object, options);
        else updateObject(guarded, kind, stored, () => object, 'object', options);
        return undefined;
      } catch (error) {
        if (error instanceof StatusError) return error.body.message;
        throw error;
      }
    },
  };
}

const role = (name: string, verbs: string[], resources: string[], extra: JsonObject = {}): JsonObject => ({
  metadata: { name },
  rules: [{ apiGroups: [''], resources, verbs, ...extra }],
});
const binding = (name: string, kind: string, refers: string, ...subjects: RbacSubject[]): JsonObject => ({
  metadata: { name },
  subjects,
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name: refers },
});
const user = (name: string): RbacSubject => ({ kind: 'User', name });
const group = (name: string): RbacSubject => ({ kind: 'Group', name });

const LIST_HERE = 'GET /api/v1/namespaces/default/pods';
const LIST_THERE = 'GET /api/v1/namespaces/kube-system/pods';
const LIST_ALL = 'GET /api/v1/pods';

test('bindings: in a namespace, in the cluster, by user, group and service account, and without their role', () => {
  const cluster = openCluster();
  const { create, may } = cluster;
  create('clusterroles', role('reader', ['list'], ['pods']));
  create('rolebindings', binding('b', 'ClusterRole', 'reader', user('bob'), group('devs')));
  assert.ok(may(person('bob'), LIST_HERE));
  assert.ok(!may(person('bob'), LIST_THERE));
  assert.ok(!may(person('bob'), LIST_ALL));
  assert.ok(may(person('eve', 'devs'), LIST_HERE));
  assert.ok(!may(person('devs'), LIST_HERE), 'a group is no user');
  create('clusterrolebindings', binding('c', 'ClusterRole', 'reader', user('ann')));
  for (const line of [LIST_HERE, LIST_THERE, LIST_ALL]) assert.ok(may(person('ann'), line), line);
  create(
    'rolebindings',
    binding('s', 'Role', 'own', { kind: 'ServiceAccount', name: 'app', namespace: 'shop' }),
  );
  assert.ok(!may(account('shop', 'app'), LIST_HERE), 'the role does not exist yet');
  create('roles', role('own', ['list'], ['pods']));
  assert.ok(may(account('shop', 'app'), LIST_HERE));
  assert.ok(!may(account('default', 'app'), LIST_HERE));
  cluster.remove('roles', 'own');
  assert.ok(!may(account('shop', 'app'), LIST_HERE));
  cluster.update('rolebindings', binding('b', 'ClusterRole', 'reader', group('devs')));
  assert.ok(!may(person('bob'), LIST_HERE), 'no subject any more');
});

test('the administrator may do everything, a stranger nothing but to ask', () => {
  const { may } = openCluster();
  assert.ok(may(person('kubernetes-admin', 'system:masters'), 'DELETE /apis/x/v1/things'));
  const stranger = person('stranger');
  assert.ok(!may(stranger, LIST_HERE));
  assert.ok(!may(stranger, 'GET /metrics'));
  for (const line of [
    'GET /version',
    'GET /api',
    'GET /apis/apps/v1',
    'GET /openapi/v3/apis/apps/v1',
    'POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
    'POST /apis/authentication.k8s.io/v1/selfsubjectreviews',
  ])
    assert.ok(may(stranger, line), line);
  assert.ok(!may(stranger, 'POST /apis/authorization.k8s.io/v1/subjectaccessreviews'));
  const nobody: User = { name: 'system:anonymous', groups: ['system:unauthenticated'] };
  for (const line of ['GET /version', 'GET /healthz', 'GET /readyz', 'GET /livez'])
    assert.ok(may(nobody, line));
  for (const line of ['GET /api', 'GET /', LIST_ALL, 'POST /version']) assert.ok(!may(nobody, line), line);
});

test('view, edit, admin: each holds the one below it', () => {
  const { create, may } = openCluster();
  for (const name of ['view', 'edit', 'admin'])
    create('rolebindings', binding(name, 'ClusterRole', name, user(name)));
  const secrets = 'GET /api/v1/namespaces/default/secrets';
  const roles = 'POST /apis/rbac.authorization.k8s.io/v1/namespaces/default/roles';
  const expected: Record<string, [view: boolean, edit: boolean, admin: boolean]> = {
    [LIST_HERE]: [true, true, true],
    'GET /api/v1/namespaces/default/pods/p/log': [true, true, true],
    'GET /api/v1/namespaces/default': [true, true, true],
    [secrets]: [false, true, true],
    'POST /api/v1/namespaces/default/pods/p/exec': [false, true, true],
    'PATCH /apis/apps/v1/namespaces/default/deployments/d/scale': [false, true, true],
    [roles]: [false, false, true],
    [LIST_THERE]: [false, false, false],
    'DELETE /api/v1/namespaces/default': [false, false, false],
    'POST /api/v1/namespaces/default/resourcequotas': [false, false, false],
  };
  for (const [line, answers] of Object.entries(expected))
    for (const [index, name] of ['view', 'edit', 'admin'].entries())
      assert.equal(may(person(name), line), answers[index], `${name}: ${line}`);
});

test('aggregation takes the rules of every role its labels match, and nothing of its own', () => {
  const roles = defaultRoles();
  const custom = {
    ...roles[0]!,
    metadata: { name: 'x-view', labels: { 'rbac.authorization.k8s.io/aggregate-to-view': 'true' } },
    rules: [{ apiGroups: ['x'], resources: ['things'], verbs: ['get'] }],
  } as ClusterRole;
  const view = roles.find(({ metadata }) => metadata.name === 'view')!;
  const rules = aggregatedRules(view, [...roles, custom])!;
  assert.ok(rules.some(({ apiGroups }) => apiGroups?.includes('x')));
  assert.equal(rules.length, (view.rules ?? []).length + 1);
  assert.equal(aggregatedRules(custom, roles), undefined);
});

test('a default role that was emptied is filled again at the next start, unless it says no', () => {
  const cluster = openCluster();
  const { update, get } = cluster;
  const emptied = { ...get('clusterroles', 'system:basic-user')!, rules: [] } as unknown as JsonObject;
  update('clusterroles', emptied);
  const kept = structuredClone(get('clusterroles', 'system:discovery')!) as unknown as JsonObject;
  const meta = kept.metadata as { annotations: Record<string, string>; resourceVersion?: string };
  meta.annotations['rbac.authorization.kubernetes.io/autoupdate'] = 'false';
  update('clusterroles', { ...kept, rules: [] });
  bootstrap(cluster, { advertise: { address: '172.31.0.1', port: 16443 }, crds: [] });
  assert.equal((get('clusterroles', 'system:basic-user')!.rules as unknown[]).length, 2);
  assert.deepEqual(get('clusterroles', 'system:discovery')!.rules, []);
});

test('a kubelet sees its own node, the pods on it, and what these refer to', () => {
  const { create, may } = openCluster();
  const n1 = person('system:node:n1', 'system:nodes');
  create('nodes', { metadata: { name: 'n1' } });
  create('serviceaccounts', { metadata: { name: 'app' } });
  const volumes = [
    { name: 'm', configMap: { name: 'settings' } },
    { name: 's', projected: { sources: [{ secret: { name: 'key' } }] } },
  ];
  create('pods', podNamed('mine', { nodeName: 'n1', volumes, serviceAccountName: 'app' }));
  create(
    'pods',
    podNamed('other', { nodeName: 'n2', volumes: [{ name: 'm', configMap: { name: 'hidden' } }] }),
  );
  const here = '/api/v1/namespaces/default';
  const yes = [
    'GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn1',
    'GET /api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1',
    'PATCH /api/v1/nodes/n1',
    'PATCH /api/v1/nodes/n1/status',
    `PATCH ${here}/pods/mine/status`,
    `DELETE ${here}/pods/mine`,
    `GET ${here}/configmaps/settings`,
    `GET ${here}/secrets/key`,
    `POST ${here}/serviceaccounts/app/token`,
    `POST ${here}/events`,
    'PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1',
    'GET /api/v1/services?watch=1',
  ];
  for (const line of yes) assert.ok(may(n1, line), line);
  const no = [
    LIST_ALL,
    'GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn2',
    'GET /api/v1/pods?fieldSelector=spec.nodeName!%3Dn1',
    'PATCH /api/v1/nodes/n2',
    'DELETE /api/v1/nodes/n1',
    `PATCH ${here}/pods/other/status`,
    `DELETE ${here}/pods/other`,
    `POST ${here}/pods`,
    `GET ${here}/secrets`,
    `GET ${here}/configmaps/hidden`,
    `GET ${here}/secrets/settings`,
    `POST ${here}/serviceaccounts/default/token`,
    'PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2',
    'GET /apis/rbac.authorization.k8s.io/v1/clusterroles',
  ];
  for (const line of no) assert.ok(!may(n1, line), line);
  assert.ok(!may(person('system:node:n1'), 'PATCH /api/v1/nodes/n1'), 'without the group no kubelet');
});

test('nobody hands on what he does not hold', () => {
  const { create, makeAs, may } = openCluster();
  create('clusterrolebindings', binding('admins', 'ClusterRole', 'admin', user('bob')));
  create('clusterroles', {
    metadata: { name: 'role-writer' },
    rules: [{ apiGroups: ['rbac.authorization.k8s.io'], resources: ['*'], verbs: ['create', 'update'] }],
  });
  create('clusterrolebindings', binding('writers', 'ClusterRole', 'role-writer', user('bob')));
  const bob = person('bob');
  assert.equal(makeAs(bob, 'roles', role('pods', ['get'], ['pods'])), undefined);
  assert.equal(
    makeAs(bob, 'clusterroles', role('nodes', ['get', 'list'], ['nodes'])),
    'clusterroles.rbac.authorization.k8s.io "nodes" is forbidden: user "bob" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[""], Resources:["nodes"], Verbs:["get" "list"]}',
  );
  assert.match(makeAs(bob, 'roles', role('pods', ['get', 'finalise'], ['pods'])) ?? '', /not currently held/);
  assert.match(
    makeAs(bob, 'clusterrolebindings', binding('up', 'ClusterRole', 'cluster-admin', user('bob'))) ?? '',
    /^clusterrolebindings\.rbac\.authorization\.k8s\.io "up" is forbidden: user "bob" .*not currently held:\n\{APIGroups:\["\*"\]/,
  );
  assert.equal(
    makeAs(bob, 'rolebindings', binding('none', 'Role', 'nothing', user('x'))),
    'roles.rbac.authorization.k8s.io "nothing" not found',
  );
  assert.equal(makeAs(bob, 'rolebindings', binding('v', 'ClusterRole', 'view', user('x'))), undefined);
  const aggregated = { metadata: { name: 'agg' }, aggregationRule: { clusterRoleSelectors: [] } };
  assert.match(makeAs(bob, 'clusterroles', aggregated) ?? '', /not currently held/);
  // The verbs that lift the rule.
  create('clusterroles', {
    metadata: { name: 'lifted' },
    rules: [
      {
        apiGroups: ['rbac.authorization.k8s.io'],
        resources: ['clusterroles'],
        verbs: ['bind'],
        resourceNames: ['cluster-admin'],
      },
      { apiGroups: ['rbac.authorization.k8s.io'], resources: ['roles'], verbs: ['escalate'] },
    ],
  });
  create('clusterrolebindings', binding('lifted', 'ClusterRole', 'lifted', user('bob')));
  assert.equal(makeAs(bob, 'roles', role('nodes', ['get'], ['nodes'])), undefined);
  assert.equal(
    makeAs(bob, 'clusterrolebindings', binding('up', 'ClusterRole', 'cluster-admin', user('bob'))),
    undefined,
  );
  assert.ok(may(bob, 'DELETE /api/v1/nodes/n1'));
});

test('a label on a role is no grant: unchanged rules may be written back by anybody who may write', () => {
  const { create, makeAs, get } = openCluster();
  create('clusterroles', {
    metadata: { name: 'role-writer' },
    rules: [{ apiGroups: ['rbac.authorization.k8s.io'], resources: ['*'], verbs: ['update'] }],
  });
  create('clusterrolebindings', binding('w', 'ClusterRole', 'role-writer', user('bob')));
  create('roles', role('nodes', ['get'], ['nodes']));
  const stored = get('roles', 'nodes') as unknown as JsonObject;
  const labelled = { ...stored, metadata: { ...(stored.metadata as JsonObject), labels: { a: 'b' } } };
  assert.equal(makeAs(person('bob'), 'roles', labelled), undefined);
});

test('roles and bindings are checked in the words of Kubernetes', () => {
  const { makeAs, create } = openCluster();
  const admin = person('a', 'system:masters');
  const refused = (plural: string, object: JsonObject, words: RegExp): void =>
    assert.match(makeAs(admin, plural, object) ?? '', words);
  refused('roles', role('x', [], ['pods']), /rules\[0\]\.verbs: Required value: verbs must contain/);
  refused('roles', { metadata: { name: 'x' }, rules: [{ verbs: ['get'] }] }, /apiGroups: Required value/);
  refused(
    'roles',
    { metadata: { name: 'x' }, rules: [{ verbs: ['get'], nonResourceURLs: ['/x'] }] },
    /namespaced rules cannot apply to non-resource URLs/,
  );
  refused(
    'clusterroles',
    { metadata: { name: 'x' }, rules: [{ verbs: ['get'], resources: ['a'], nonResourceURLs: ['/x'] }] },
    /cannot apply to both/,
  );
  refused(
    'roles',
    { metadata: { name: 'x' }, rules: [{ verbs: 'get' }] },
    /cannot unmarshal string into Go struct field PolicyRule.rules.verbs of type \[\]string/,
  );
  refused(
    'clusterrolebindings',
    binding('x', 'Role', 'r', user('u')),
    /roleRef\.kind: Unsupported value: "Role"/,
  );
  refused(
    'rolebindings',
    binding('x', 'Role', 'r', { kind: 'ServiceAccount', name: 'a' }),
    /subjects\[0\]\.namespace: Required value/,
  );
  create('rolebindings', binding('x', 'ClusterRole', 'view', user('u')));
  refused(
    'rolebindings',
    binding('x', 'ClusterRole', 'edit', user('u')),
    /roleRef: Invalid value: .*cannot change roleRef/,
  );
});

const USERS = ['a', 'b'];
const anyStep = fc.record({
  what: fc.constantFrom('role', 'clusterrole', 'rolebinding', 'clusterrolebinding'),
  name: fc.constantFrom('x', 'y'),
  remove: fc.boolean(),
  verbs: fc.subarray(['get', 'list'], { minLength: 1 }),
  refers: fc.constantFrom('x', 'y'),
  ofCluster: fc.boolean(),
  subjects: fc.subarray([user('a'), user('b'), group('g')]),
});

test('property: after any changes the index decides as one that is built anew', () => {
  const cluster = openCluster();
  const plurals = {
    role: 'roles',
    clusterrole: 'clusterroles',
    rolebinding: 'rolebindings',
    clusterrolebinding: 'clusterrolebindings',
  };
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 12 }), (steps) => {
      for (const step of steps) {
        const plural = plurals[step.what as keyof typeof plurals];
        const kind = cluster.kind(plural);
        const namespace = kind.namespaced ? 'default' : undefined;
        const stored = cluster.store.get(kind.resource, namespace, step.name);
        if (stored !== undefined) deleteObject(cluster, kind, stored, { dryRun: false });
        if (step.remove) continue;
        const refers = step.what === 'clusterrolebinding' || step.ofCluster ? 'ClusterRole' : 'Role';
        cluster.create(
          plural,
          step.what.endsWith('role')
            ? role(step.name, step.verbs, ['pods'])
            : binding(step.name, refers, step.refers, ...step.subjects),
        );
      }
      const fresh = new AccessControl({ store: cluster.store, log: silentLogger });
      for (const name of USERS)
        for (const groups of [[], ['g']])
          for (const line of [LIST_HERE, LIST_ALL, `${LIST_HERE}/p`]) {
            const [method = '', path = ''] = line.split(' ');
            const access = accessOf(method, path, new URLSearchParams());
            const decided = cluster.control.decide(person(name, ...groups), access);
            assert.equal(decided.allowed, fresh.decide(person(name, ...groups), access).allowed, line);
          }
    }),
    { numRuns: 100 },
  );
});
