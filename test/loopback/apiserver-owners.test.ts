// Who owns what after writes of every kind, over the interface that clients use: updates, patches, status, scale, apply.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ApiRig, type Json, withApiServer } from './apiserver-rig.ts';

const MAPS = '/api/v1/namespaces/default/configmaps';
const PODS = '/api/v1/namespaces/default/pods';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';
const POLICIES = '/apis/security.istio.io/v1/namespaces/default/authorizationpolicies';
const APPLY = 'application/apply-patch+yaml';

const map = (data: Json, meta: Json = {}): Json => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'm', ...meta },
  data,
});

const deployment = (replicas: number): Json => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'd' },
  spec: {
    replicas,
    selector: { matchLabels: { app: 'd' } },
    template: {
      metadata: { labels: { app: 'd' } },
      spec: { containers: [{ name: 'main', image: 'local/shell' }] },
    },
  },
});

interface Options {
  readonly agent?: string;
  readonly query?: string;
  readonly type?: string;
}

const call = async (rig: ApiRig, method: string, path: string, body: Json, options: Options = {}) =>
  await rig.call(method, `${path}${options.query ?? ''}`, {
    body,
    ...(options.type === undefined ? {} : { type: options.type }),
    headers: { 'user-agent': options.agent ?? 'tool/1.2 (linux)' },
  });

async function done(...args: Parameters<typeof call>): Promise<Json> {
  const answer = await call(...args);
  assert.ok(answer.code < 300, answer.text);
  return answer.body;
}

const apply = (rig: ApiRig, path: string, body: Json, manager: string, more = ''): ReturnType<typeof call> =>
  call(rig, 'PATCH', path, body, { type: APPLY, query: `?fieldManager=${manager}${more}` });

/** Elements of a set stand in no order. */
const sorted = (set: Json): Json =>
  Object.fromEntries(
    Object.keys(set)
      .sort()
      .map((key) => [key, sorted(set[key])]),
  );

/** `manager operation subresource: fields`, in the order of the server. */
const owners = (object: Json): string[] =>
  (object.metadata.managedFields ?? []).map(
    (entry: Json) =>
      `${entry.manager} ${entry.operation} ${entry.subresource ?? '-'}: ${JSON.stringify(sorted(entry.fieldsV1))}`,
  );

test('updates and patches own what they change, under the name of the program or the one asked for', async () => {
  await withApiServer(async (rig) => {
    const made = await done(rig, 'POST', MAPS, map({ a: '1', b: '1' }));
    assert.deepEqual(owners(made), ['tool Update -: {"f:data":{".":{},"f:a":{},"f:b":{}}}']);
    const patched = await done(
      rig,
      'PATCH',
      `${MAPS}/m`,
      { data: { a: '2' } },
      {
        type: 'application/merge-patch+json',
        query: '?fieldManager=hand',
      },
    );
    assert.deepEqual(owners(patched), [
      'hand Update -: {"f:data":{"f:a":{}}}',
      'tool Update -: {"f:data":{".":{},"f:b":{}}}',
    ]);
    const put = await done(
      rig,
      'PUT',
      `${MAPS}/m`,
      { ...patched, data: { a: '2', b: '3' } },
      { agent: 'other' },
    );
    assert.deepEqual(owners(put), [
      'hand Update -: {"f:data":{"f:a":{}}}',
      'other Update -: {"f:data":{"f:b":{}}}',
      'tool Update -: {"f:data":{}}',
    ]);
  });
});

test('a write that changes nothing keeps version and times, whoever repeats it', async () => {
  let nowMs = Date.parse('2026-01-01T00:00:00Z');
  const clock = { now: () => nowMs, monotonicMs: () => nowMs };
  await withApiServer(
    async (rig) => {
      const first = await apply(rig, `${MAPS}/m`, map({ a: '1' }), 'me');
      assert.equal(first.code, 201);
      nowMs += 60_000;
      const again = await apply(rig, `${MAPS}/m`, map({ a: '1' }), 'me');
      assert.deepEqual(again.body, first.body);
      const put = await done(rig, 'PUT', `${MAPS}/m`, first.body, { agent: 'other' });
      assert.deepEqual(put, first.body);
      const shared = await apply(rig, `${MAPS}/m`, map({ a: '1' }), 'you');
      assert.notEqual(shared.body.metadata.resourceVersion, first.body.metadata.resourceVersion);
      assert.deepEqual(owners(shared.body), [
        'you Apply -: {"f:data":{"f:a":{}}}',
        'me Apply -: {"f:data":{"f:a":{}}}',
      ]);
    },
    { clock },
  );
});

test('each door owns its own: status through status, replicas through scale, bindings nothing', async () => {
  await withApiServer(async (rig) => {
    await done(rig, 'POST', DEPLOYMENTS, deployment(1));
    const withStatus = await done(
      rig,
      'PATCH',
      `${DEPLOYMENTS}/d/status`,
      { status: { replicas: 1 } },
      {
        type: 'application/merge-patch+json',
        agent: 'controller',
      },
    );
    assert.ok(owners(withStatus).includes('controller Update status: {"f:status":{".":{},"f:replicas":{}}}'));
    await done(
      rig,
      'PATCH',
      `${DEPLOYMENTS}/d/scale`,
      { spec: { replicas: 3 } },
      {
        type: 'application/merge-patch+json',
        agent: 'scaler',
      },
    );
    const scaled = (await rig.call('GET', `${DEPLOYMENTS}/d`)).body;
    assert.ok(owners(scaled).includes('scaler Update scale: {"f:spec":{"f:replicas":{}}}'));
    assert.ok(!owners(scaled).some((each) => each.startsWith('tool') && each.includes('f:replicas')));
    const refused = await apply(rig, `${DEPLOYMENTS}/d`, deployment(2), 'me');
    assert.equal(
      refused.body.message,
      'Apply failed with 1 conflict: conflict with "scaler" with subresource "scale" using apps/v1: .spec.replicas',
    );
    const scale = {
      apiVersion: 'autoscaling/v1',
      kind: 'Scale',
      metadata: { name: 'd' },
      spec: { replicas: 4 },
    };
    assert.equal((await apply(rig, `${DEPLOYMENTS}/d/scale`, scale, 'me')).code, 409);
    assert.equal((await apply(rig, `${DEPLOYMENTS}/d/scale`, scale, 'me', '&force=true')).code, 200);
    assert.ok(
      owners((await rig.call('GET', `${DEPLOYMENTS}/d`)).body).includes(
        'me Apply scale: {"f:spec":{"f:replicas":{}}}',
      ),
    );
    const pod = { metadata: { name: 'p' }, spec: deployment(1).spec.template.spec };
    const created = await done(rig, 'POST', PODS, pod);
    await done(rig, 'POST', `${PODS}/p/binding`, { target: { name: 'n1' } }, { agent: 'scheduler' });
    const bound = (await rig.call('GET', `${PODS}/p`)).body;
    assert.equal(bound.spec.nodeName, 'n1');
    assert.deepEqual(owners(bound), owners(created));
  });
});

test('conflicts: 409 with causes; force takes over; what nobody holds any more goes', async () => {
  await withApiServer(async (rig) => {
    await apply(rig, `${MAPS}/m`, map({ a: '1', b: '1' }), 'me');
    const refused = await apply(rig, `${MAPS}/m`, map({ a: '2', b: '2' }), 'you');
    assert.equal(refused.code, 409);
    assert.equal(refused.body.reason, 'Conflict');
    assert.equal(
      refused.body.message,
      'Apply failed with 2 conflicts: conflicts with "me":\n- .data.a\n- .data.b',
    );
    assert.deepEqual(refused.body.details.causes, [
      { reason: 'FieldManagerConflict', message: 'conflict with "me"', field: '.data.a' },
      { reason: 'FieldManagerConflict', message: 'conflict with "me"', field: '.data.b' },
    ]);
    const dry = await apply(rig, `${MAPS}/m`, map({ a: '2' }), 'you', '&force=true&dryRun=All');
    assert.equal(dry.body.data.a, '2');
    assert.equal((await rig.call('GET', `${MAPS}/m`)).body.data.a, '1', 'a dry run leaves it as it was');
    const forced = await apply(rig, `${MAPS}/m`, map({ a: '2' }), 'you', '&force=true');
    assert.deepEqual(forced.body.data, { a: '2', b: '1' });
    const emptied = await apply(rig, `${MAPS}/m`, { ...map({}), data: undefined }, 'me');
    assert.deepEqual(emptied.body.data, { a: '2' });
    const last = await apply(rig, `${MAPS}/m`, { ...map({}), data: undefined }, 'you');
    assert.equal(last.body.data, undefined);
    assert.deepEqual(owners(last.body), []);
  });
});

test('an empty list ends the tracking until the next apply; other entries are taken as they come', async () => {
  await withApiServer(async (rig) => {
    const made = await done(rig, 'POST', MAPS, map({ a: '1' }));
    const cleared = await done(
      rig,
      'PATCH',
      `${MAPS}/m`,
      { metadata: { managedFields: [] } },
      {
        type: 'application/merge-patch+json',
      },
    );
    assert.equal(cleared.metadata.managedFields, undefined);
    const untracked = await done(
      rig,
      'PATCH',
      `${MAPS}/m`,
      { data: { b: '1' } },
      {
        type: 'application/merge-patch+json',
      },
    );
    assert.equal(untracked.metadata.managedFields, undefined);
    const refused = await apply(rig, `${MAPS}/m`, map({ a: '2' }), 'me');
    assert.match(refused.body.message, /conflict with "before-first-apply" using v1: \.data\.a$/);
    const given = [{ ...made.metadata.managedFields[0], manager: 'renamed' }];
    const renamed = await done(
      rig,
      'PATCH',
      `${MAPS}/m`,
      [{ op: 'add', path: '/metadata/managedFields', value: given }],
      { type: 'application/json-patch+json' },
    );
    assert.deepEqual(owners(renamed), ['renamed Update -: {"f:data":{".":{},"f:a":{}}}']);
    const spoilt = [{ ...given[0], fieldsV1: { spec: {} } }];
    const kept = await done(
      rig,
      'PATCH',
      `${MAPS}/m`,
      [{ op: 'replace', path: '/metadata/managedFields', value: spoilt }],
      { type: 'application/json-patch+json' },
    );
    assert.deepEqual(owners(kept), owners(renamed), 'what cannot be read changes nothing');
  });
});

test('custom resources: lists and maps as their schema says, and its unknown fields are refused', async () => {
  await withApiServer(async (rig) => {
    const policy = (spec: Json): Json => ({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'p' },
      spec,
    });
    const made = await apply(rig, `${POLICIES}/p`, policy({ action: 'ALLOW', rules: [{}] }), 'me');
    assert.equal(made.code, 201, made.text);
    assert.deepEqual(owners(made.body), ['me Apply -: {"f:spec":{"f:action":{},"f:rules":{}}}']);
    const refused = await apply(rig, `${POLICIES}/p`, policy({ rules: [] }), 'you');
    assert.equal(refused.body.message, 'Apply failed with 1 conflict: conflict with "me": .spec.rules');
    const unknown = await apply(rig, `${POLICIES}/p`, policy({ rulez: [] }), 'you');
    assert.equal(unknown.code, 400);
    assert.match(unknown.body.message, /\.spec\.rulez: field not declared in schema$/);
  });
});

test('options that do not fit are refused: no manager, one too long, force without apply, entries in what is applied', async () => {
  await withApiServer(async (rig) => {
    const messages = async (query: string, type = APPLY, body: Json = map({})): Promise<[number, string]> => {
      const answer = await call(rig, 'PATCH', `${MAPS}/m`, body, { type, query });
      return [answer.code, answer.body.message];
    };
    assert.deepEqual(await messages(''), [
      422,
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
    ]);
    assert.deepEqual(await messages(`?fieldManager=${'x'.repeat(129)}`), [
      422,
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes',
    ]);
    assert.deepEqual(await messages('?force=true', 'application/merge-patch+json'), [
      422,
      'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch',
    ]);
    assert.equal((await messages('?fieldManager=a%0Ab'))[0], 422);
    assert.deepEqual(await messages('?fieldManager=me', APPLY, map({}, { managedFields: [] })), [
      400,
      'metadata.managedFields must be nil',
    ]);
    assert.deepEqual(await messages('?fieldManager=me', APPLY, { metadata: { name: 'm' } }), [
      400,
      'invalid object type: , Kind=; expected v1, Kind=ConfigMap',
    ]);
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'none' } };
    assert.equal((await apply(rig, `${PODS}/none/status`, pod, 'me')).code, 404);
  });
});

test('more than ten writers of updates: the oldest become one', async () => {
  await withApiServer(async (rig) => {
    await done(rig, 'POST', MAPS, map({ a: '1' }));
    for (let index = 0; index < 12; index++)
      await done(
        rig,
        'PATCH',
        `${MAPS}/m`,
        { data: { [`k${index}`]: '1' } },
        {
          type: 'application/merge-patch+json',
          query: `?fieldManager=m${String(index).padStart(2, '0')}`,
        },
      );
    const found = owners((await rig.call('GET', `${MAPS}/m`)).body);
    assert.equal(found.length, 10);
    assert.equal(found.filter((each) => each.startsWith('ancient-changes Update')).length, 1);
  });
});
