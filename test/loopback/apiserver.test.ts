// The embedded API server over real TLS: credentials, limits, watches, tokens, logs, restarts.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { createAuthority } from '#tls/issue.ts';
import { type ApiRig, type Json, withApiServer, withServerIn } from './apiserver-rig.ts';

const PODS = '/api/v1/namespaces/default/pods';
const MAPS = '/api/v1/namespaces/default/configmaps';
const POLICIES = '/apis/security.istio.io/v1/namespaces/default/authorizationpolicies';

const pod = (name: string, extra: Json = {}): Json => ({
  metadata: { name },
  spec: { containers: [{ name: 'main', image: 'local/shell' }], ...extra },
});

async function made(rig: ApiRig, path: string, body: Json): Promise<Json> {
  const answer = await rig.call('POST', path, { body });
  assert.equal(answer.code, 201, answer.text);
  return answer.body;
}

test('who may ask: certificate or token; nobody sees only health and version', async () => {
  await withApiServer(async ({ call }) => {
    assert.equal((await call('GET', '/api/v1/namespaces')).code, 200);
    for (const path of ['/version', '/healthz', '/readyz', '/livez'])
      assert.equal((await call('GET', path, { as: 'nobody' })).code, 200, path);
    for (const path of ['/api', '/api/v1/pods', '/', '/openapi/v3']) {
      const answer = await call('GET', path, { as: 'nobody' });
      assert.equal(answer.code, 403, path);
      assert.equal(answer.body.kind, 'Status');
      assert.match(answer.body.message, /User "system:anonymous" cannot (get path|list resource)/);
    }
    assert.equal((await call('GET', '/api', { as: { token: 'rubbish' } })).code, 401);
    assert.equal(
      (await call('GET', '/healthz', { headers: { authorization: 'Basic YTpi' }, as: 'nobody' })).code,
      401,
    );
  });
});

test('a client certificate of another authority is refused', async () => {
  await withApiServer(async ({ call }) => {
    const foreign = await createAuthority({ commonName: 'foreign', validDays: 1 });
    const leaf = await foreign.issue({
      commonName: 'kubernetes-admin',
      organization: ['system:masters'],
      client: true,
      validForMs: 3_600_000,
    });
    const answer = await call('GET', '/api', { as: { cert: leaf.certPem, key: leaf.keyPem! } });
    assert.equal(answer.code, 401);
    assert.equal(answer.body.reason, 'Unauthorized');
  });
});

test('the server proves itself under every name clients use', async () => {
  await withApiServer(async ({ server, port }) => {
    for (const servername of ['localhost', 'kubernetes', 'kubernetes.default.svc.cluster.local']) {
      const socket = connect({
        host: '127.0.0.1',
        port,
        ca: server.caPem,
        servername,
        ALPNProtocols: ['h2', 'http/1.1'],
      });
      await new Promise<void>((resolve, reject) => {
        socket.once('secureConnect', resolve);
        socket.once('error', reject);
      });
      assert.equal(socket.alpnProtocol, 'http/1.1');
      const names = socket.getPeerCertificate().subjectaltname ?? '';
      for (const name of [
        'DNS:kubernetes.default',
        'IP Address:10.96.0.1',
        'IP Address:172.31.0.1',
        'IP Address:127.0.0.1',
      ])
        assert.ok(names.includes(name), `${name} in ${names}`);
      socket.destroy();
    }
  });
});

test('pages of browsers and foreign names are kept out', async () => {
  await withApiServer(async ({ call, port }) => {
    assert.equal((await call('GET', '/version', { headers: { origin: 'https://evil.example' } })).code, 403);
    assert.equal((await call('GET', '/version', { headers: { origin: 'null' } })).code, 403);
    assert.equal((await call('GET', '/version', { headers: { host: `evil.example:${port}` } })).code, 403);
    assert.equal(
      (await call('GET', '/version', { headers: { origin: `https://127.0.0.1:${port}` } })).code,
      200,
    );
    assert.equal((await call('GET', '/version', { headers: { host: 'kubernetes.default.svc' } })).code, 200);
  });
});

test('bodies: too large, of a strange kind, in YAML, without a type', async () => {
  await withApiServer(async ({ call }) => {
    const large = await call('POST', MAPS, { body: Buffer.alloc(3 * 1024 * 1024 + 1, 0x20) });
    assert.equal(large.code, 413);
    assert.equal(large.body.reason, 'RequestEntityTooLarge');
    const protobuf = await call('POST', MAPS, { body: 'k8s\0', type: 'application/vnd.kubernetes.protobuf' });
    assert.equal(protobuf.code, 400);
    assert.match(protobuf.body.message, /cannot be read as protobuf: its envelope names no kind/);
    const cbor = await call('POST', MAPS, { body: 'x', type: 'application/cbor' });
    assert.equal(cbor.code, 415);
    const yaml = await call('POST', MAPS, {
      body: 'metadata:\n  name: yaml\ndata:\n  a: b\n',
      type: 'application/yaml',
    });
    assert.equal(yaml.code, 201);
    const bare = await call('POST', MAPS, { body: '{"metadata":{"name":"bare"}}', type: '' });
    assert.equal(bare.code, 201);
    const shown = await call('GET', `${MAPS}/yaml`, { headers: { accept: 'application/yaml' } });
    assert.equal(shown.headers['content-type'], 'application/yaml');
    assert.match(shown.text, /^data:\n {2}a: b$/m);
  });
});

test('paths and methods that do not exist are said to', async () => {
  await withApiServer(async ({ call }) => {
    for (const path of [
      '/nothing',
      '/api/v2',
      '/apis/none.example/v1/things',
      '/api/v1/nothing',
      `${PODS}/x/nothing`,
    ])
      assert.equal((await call('GET', path)).code, 404, path);
    assert.equal((await call('PUT', PODS, { body: {} })).code, 405);
    assert.equal((await call('POST', `${PODS}/x`, { body: {} })).code, 405);
    assert.equal((await call('POST', `${PODS}/x/exec?command=ls`)).code, 501);
    const missing = await call('GET', `${PODS}/x`);
    assert.deepEqual(missing.body, {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: 'pods "x" not found',
      reason: 'NotFound',
      details: { name: 'x', kind: 'pods' },
      code: 404,
    });
  });
});

test('the patches', async () => {
  await withApiServer(async (rig) => {
    await made(rig, PODS, pod('p'));
    const patch = (type: string, body: Json, query = ''): Promise<{ code: number; body: Json }> =>
      rig.call('PATCH', `${PODS}/p${query}`, { body, type });
    const merged = await patch('application/merge-patch+json', { metadata: { labels: { a: '1' } } });
    assert.deepEqual(merged.body.metadata.labels, { a: '1' });
    const json = await patch('application/json-patch+json', [
      { op: 'add', path: '/metadata/labels/b', value: '2' },
    ]);
    assert.deepEqual(json.body.metadata.labels, { a: '1', b: '2' });
    const strategic = await patch('application/strategic-merge-patch+json', {
      spec: { containers: [{ name: 'main', image: 'local/new' }] },
    });
    assert.equal(strategic.body.spec.containers[0].image, 'local/new');
    assert.equal(strategic.body.spec.containers[0].imagePullPolicy, 'Always');
    const applied = await patch(
      'application/apply-patch+yaml',
      { apiVersion: 'v1', kind: 'Pod', metadata: { labels: { c: '3' } } },
      '?fieldManager=m',
    );
    assert.deepEqual(applied.body.metadata.labels, { a: '1', b: '2', c: '3' });
    assert.equal((await patch('application/apply-patch+yaml', {})).code, 422, 'a manager is required');
    assert.equal((await patch('text/plain', {})).code, 415);
    const stale = { metadata: { resourceVersion: '1', labels: { d: '4' } } };
    assert.equal((await patch('application/merge-patch+json', stale)).code, 409);
    const created = await rig.call('PATCH', `${MAPS}/new?fieldManager=m`, {
      body: 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: new\ndata: {k: v}\n',
      type: 'application/apply-patch+yaml',
    });
    assert.equal(created.code, 201);
    await made(rig, POLICIES, { metadata: { name: 'x' }, spec: {} });
    const custom = await rig.call('PATCH', `${POLICIES}/x`, {
      body: {},
      type: 'application/strategic-merge-patch+json',
    });
    assert.equal(custom.code, 415);
  });
});

test('misspelt policy fields are refused on create, update and every patch, whatever is asked', async () => {
  await withApiServer(async (rig) => {
    const bad = { metadata: { name: 'x' }, spec: { rules: [{ form: [] }] } };
    const query = '?fieldValidation=Ignore&fieldManager=m';
    assert.equal((await rig.call('POST', POLICIES + query, { body: bad })).code, 400);
    await made(rig, POLICIES, { metadata: { name: 'x' }, spec: {} });
    assert.equal((await rig.call('PUT', `${POLICIES}/x${query}`, { body: bad })).code, 400);
    for (const [type, body] of [
      ['application/merge-patch+json', bad],
      ['application/json-patch+json', [{ op: 'add', path: '/spec/rule', value: [] }]],
      [
        'application/apply-patch+yaml',
        { apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', ...bad },
      ],
    ] as const) {
      const answer = await rig.call('PATCH', `${POLICIES}/x${query}`, { body, type });
      assert.equal(answer.code, 400, type);
      assert.match(
        answer.body.message,
        /unknown field "spec\.(rules\[0\]\.form|rule)"|\.spec\.rules\[0\]\.form: field not declared in schema/,
      );
    }
    const created = await rig.call('PATCH', `${POLICIES}/y${query}`, {
      body: {
        apiVersion: 'security.istio.io/v1',
        kind: 'AuthorizationPolicy',
        metadata: { name: 'y' },
        spec: bad.spec,
      },
      type: 'application/apply-patch+yaml',
    });
    assert.equal(created.code, 400);
  });
});

test('deleting: a Status, or the object while it lasts; collections by label', async () => {
  await withApiServer(async (rig) => {
    const map = await made(rig, MAPS, { metadata: { name: 'a' } });
    const gone = await rig.call('DELETE', `${MAPS}/a`);
    assert.deepEqual(gone.body.details, { name: 'a', kind: 'configmaps', uid: map.metadata.uid });
    await made(rig, PODS, pod('p', { nodeName: 'n1' }));
    const ending = await rig.call('DELETE', `${PODS}/p`, {
      body: { kind: 'DeleteOptions', gracePeriodSeconds: 5 },
    });
    assert.equal(ending.body.metadata.deletionGracePeriodSeconds, 5);
    assert.equal((await rig.call('DELETE', `${PODS}/p?gracePeriodSeconds=0`)).code, 200);
    assert.equal((await rig.call('GET', `${PODS}/p`)).code, 404);
    for (const [name, tier] of [
      ['x', '1'],
      ['y', '1'],
      ['z', '2'],
    ] as const)
      await made(rig, MAPS, { metadata: { name, labels: { tier } } });
    const many = await rig.call('DELETE', `${MAPS}?labelSelector=tier%3D1`);
    assert.deepEqual(
      many.body.items.map((item: Json) => item.metadata.name),
      ['x', 'y'],
    );
    assert.equal((await rig.call('GET', MAPS)).body.items.length, 1);
    assert.equal((await rig.call('DELETE', `${MAPS}/z?propagationPolicy=Sideways`)).code, 422);
  });
});

/** Reads events until the condition holds, then goes away. */
async function eventsUntil(
  rig: ApiRig,
  path: string,
  enough: (events: Json[]) => boolean,
  started?: () => Promise<void>,
): Promise<Json[]> {
  const response = await rig.open('GET', path);
  assert.equal(response.statusCode, 200);
  const events: Json[] = [];
  const going = started?.();
  for await (const line of createInterface({ input: response })) {
    events.push(JSON.parse(line));
    if (enough(events)) break;
  }
  response.destroy();
  await going;
  return events;
}

test('a list carries the version of the whole cluster, and an unknown field is a Warning header', async () => {
  await withApiServer(async (rig) => {
    await made(rig, MAPS, { metadata: { name: 'a' } });
    const secret = await made(rig, '/api/v1/namespaces/default/secrets', { metadata: { name: 's' } });
    const list = await rig.call('GET', MAPS);
    assert.equal(list.body.metadata.resourceVersion, secret.metadata.resourceVersion);
    const odd = { metadata: { name: 'odd' }, datta: {} };
    const warned = await rig.call('POST', MAPS, { body: odd });
    assert.equal(warned.code, 201);
    assert.equal(warned.headers.warning, '299 - "unknown field \\"datta\\""');
    const strict = await rig.call('POST', `${MAPS}?fieldValidation=Strict`, { body: odd });
    assert.equal(strict.code, 400);
    assert.match(strict.body.message, /strict decoding error: unknown field "datta"/);
  });
});

test('kubectl get --chunk-size: tables come in chunks, too', async () => {
  await withApiServer(async (rig) => {
    for (const name of ['a', 'b', 'c']) await made(rig, MAPS, { metadata: { name } });
    const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io';
    const first = (await rig.call('GET', `${MAPS}?limit=2`, { headers: { accept } })).body;
    assert.equal(first.rows.length, 2);
    assert.equal(first.metadata.remainingItemCount, 1);
    await rig.call('DELETE', `${MAPS}/c`);
    const token = encodeURIComponent(first.metadata.continue);
    const rest = (await rig.call('GET', `${MAPS}?limit=2&continue=${token}`, { headers: { accept } })).body;
    assert.deepEqual(
      rest.rows.map((row: Json) => row.cells[0]),
      ['c'],
    );
    assert.equal(rest.metadata.continue, undefined);
  });
});

test('list and watch: nothing is missed in between', async () => {
  await withApiServer(async (rig) => {
    await made(rig, MAPS, { metadata: { name: 'a' } });
    const list = (await rig.call('GET', MAPS)).body;
    await made(rig, MAPS, { metadata: { name: 'b' } });
    const events = await eventsUntil(
      rig,
      `${MAPS}?watch=true&resourceVersion=${list.metadata.resourceVersion}`,
      (all) => all.length === 3,
      async () => {
        await rig.call('PATCH', `${MAPS}/a`, {
          body: { data: { k: 'v' } },
          type: 'application/merge-patch+json',
        });
        await rig.call('DELETE', `${MAPS}/b`);
      },
    );
    assert.deepEqual(
      events.map(({ type, object }) => `${type} ${object.metadata.name}`),
      ['ADDED b', 'MODIFIED a', 'DELETED b'],
    );
    assert.ok(
      Number(events[2].object.metadata.resourceVersion) > Number(events[1].object.metadata.resourceVersion),
    );
  });
});

test('WatchList, its bookmark, and the end by timeout', async () => {
  await withApiServer(async (rig) => {
    await made(rig, MAPS, { metadata: { name: 'a' } });
    const query =
      'watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true';
    const answer = await rig.call('GET', `${MAPS}?${query}&timeoutSeconds=1`);
    const events = answer.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Json);
    assert.deepEqual(
      events.map(({ type }) => type),
      ['ADDED', 'BOOKMARK'],
    );
    assert.equal(events[1].object.metadata.annotations['k8s.io/initial-events-end'], 'true');
    assert.equal((await rig.call('GET', `${MAPS}?watch=true&sendInitialEvents=true`)).code, 400);
    const future = await rig.call('GET', `${MAPS}?watch=true&resourceVersion=999999`);
    assert.equal(future.code, 504);
    assert.equal(future.body.details.causes[0].reason, 'ResourceVersionTooLarge');
  });
});

test('a watcher that does not read is cut; others are not', async () => {
  await withApiServer(async (rig) => {
    const slow = await rig.open('GET', `${MAPS}?watch=true`);
    slow.pause();
    let cut = false;
    slow.on('close', () => {
      cut = true;
    });
    slow.on('error', () => {
      cut = true;
    });
    await made(rig, MAPS, { metadata: { name: 'big' } });
    const data = 'x'.repeat(1_000_000);
    // Kernel and TLS buffers swallow some; then 4 MB more may wait.
    for (let round = 0; round < 60 && !cut; round++)
      await rig.call('PATCH', `${MAPS}/big`, {
        body: { data: { data, round: String(round) } },
        type: 'application/merge-patch+json',
      });
    // The reset is seen when the reader reads on.
    slow.resume();
    await new Promise<void>((resolve) => {
      if (cut) resolve();
      slow.once('close', resolve);
      slow.once('error', () => resolve());
    });
    assert.equal((await rig.call('GET', '/readyz')).text, 'ok');
  });
});

test('tokens: for the server itself, and for others', async () => {
  await withApiServer(async (rig) => {
    await made(rig, '/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'web' } });
    const path = '/api/v1/namespaces/default/serviceaccounts/web/token';
    const own = (await made(rig, path, { spec: {} })).status.token as string;
    const who = await rig.call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {
      body: {},
      as: { token: own },
    });
    assert.equal(who.body.status.userInfo.username, 'system:serviceaccount:default:web');
    const mesh = (await made(rig, path, { spec: { audiences: ['istio-ca'] } })).status.token as string;
    assert.equal(
      (await rig.call('GET', '/api', { as: { token: mesh } })).code,
      401,
      'a token for another audience',
    );
    const review = await made(rig, '/apis/authentication.k8s.io/v1/tokenreviews', {
      spec: { token: mesh, audiences: ['istio-ca'] },
    });
    assert.equal(review.status.authenticated, true);
    const access = await made(rig, '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
      spec: { resourceAttributes: { verb: 'get', resource: 'pods' } },
    });
    assert.equal(access.status.allowed, true);
    assert.match(access.status.reason, /system:masters/);
  });
});

test('scale, binding, finalize', async () => {
  await withApiServer(async (rig) => {
    const deployments = '/apis/apps/v1/namespaces/default/deployments';
    const labels = { app: 'web' };
    await made(rig, deployments, {
      metadata: { name: 'web' },
      spec: { selector: { matchLabels: labels }, template: { metadata: { labels }, spec: pod('x').spec } },
    });
    const scale = (await rig.call('GET', `${deployments}/web/scale`)).body;
    assert.equal(scale.kind, 'Scale');
    assert.deepEqual([scale.spec, scale.status], [{ replicas: 1 }, { replicas: 0, selector: 'app=web' }]);
    const scaled = await rig.call('PATCH', `${deployments}/web/scale`, {
      body: { spec: { replicas: 4 } },
      type: 'application/merge-patch+json',
    });
    assert.equal(scaled.body.spec.replicas, 4);
    assert.equal((await rig.call('GET', `${deployments}/web`)).body.spec.replicas, 4);
    assert.equal(
      (await rig.call('PUT', `${deployments}/web/scale`, { body: { spec: { replicas: -1 } } })).code,
      422,
    );
    await made(rig, PODS, pod('p'));
    const other = { metadata: { uid: 'of-another-life' }, target: { kind: 'Node', name: 'n1' } };
    const refused = await rig.call('POST', `${PODS}/p/binding`, { body: other });
    assert.equal(refused.code, 409);
    assert.match(refused.body.message, /UID in precondition: of-another-life/);
    await made(rig, `${PODS}/p/binding`, { target: { kind: 'Node', name: 'n1' } });
    assert.equal((await rig.call('GET', `${PODS}/p`)).body.spec.nodeName, 'n1');
    assert.equal(
      (await rig.call('POST', `${PODS}/p/binding`, { body: { target: { name: 'n2' } } })).code,
      409,
    );
    const namespace = await made(rig, '/api/v1/namespaces', { metadata: { name: 'shop' } });
    await rig.call('DELETE', '/api/v1/namespaces/shop');
    await rig.call('PUT', '/api/v1/namespaces/shop/finalize', {
      body: { ...namespace, metadata: { name: 'shop' }, spec: { finalizers: [] } },
    });
    assert.equal((await rig.call('GET', '/api/v1/namespaces/shop')).code, 404);
  });
});

test('logs come from the kubelet, with its words when there are none', async () => {
  const asked: unknown[] = [];
  const podLogs = {
    async *open(
      found: { metadata: { name: string } },
      container: string,
      { signal: _, ...options }: object & { signal: AbortSignal },
    ) {
      asked.push([found.metadata.name, container, options]);
      if (container === 'idle') throw new Error('container "idle" is waiting to start: ContainerCreating');
      yield Buffer.from('one\n');
      yield Buffer.from('two\n');
    },
  };
  await withApiServer(
    async (rig) => {
      await made(
        rig,
        PODS,
        pod('p', {
          containers: [
            { name: 'main', image: 'a' },
            { name: 'idle', image: 'a' },
          ],
        }),
      );
      const log = await rig.call('GET', `${PODS}/p/log?container=main&tailLines=5&timestamps=true`);
      assert.equal(log.headers['content-type'], 'text/plain');
      assert.equal(log.text, 'one\ntwo\n');
      assert.deepEqual(asked, [
        ['p', 'main', { follow: false, previous: false, timestamps: true, tailLines: 5 }],
      ]);
      const idle = await rig.call('GET', `${PODS}/p/log?container=idle`);
      assert.equal(idle.code, 400);
      assert.match(idle.body.message, /waiting to start/);
      assert.match((await rig.call('GET', `${PODS}/p/log`)).body.message, /choose one of: \[main idle\]/);
      assert.equal((await rig.call('GET', `${PODS}/p/log?container=none`)).code, 400);
      assert.equal((await rig.call('GET', `${PODS}/p/log?container=main&tailLines=x`)).code, 422);
    },
    { podLogs },
  );
});

test('a reader of a followed log that goes away is noticed', async () => {
  let ended: () => void;
  const end = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const podLogs = {
    async *open(_pod: unknown, _container: string, { signal }: { signal: AbortSignal }) {
      yield Buffer.from('first\n');
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      ended();
    },
  };
  await withApiServer(
    async (rig) => {
      await made(rig, PODS, pod('p'));
      const response = await rig.open('GET', `${PODS}/p/log?follow=true`);
      for await (const chunk of response) {
        assert.equal(String(chunk), 'first\n');
        break;
      }
      response.destroy();
      await end;
    },
    { podLogs },
  );
});

test('discovery in both forms, with the kinds of a new definition', async () => {
  await withApiServer(async (rig) => {
    const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json';
    const all = await rig.call('GET', '/apis', { headers: { accept } });
    assert.equal(
      all.headers['content-type'],
      'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList',
    );
    const same = await rig.call('GET', '/apis', { headers: { accept, 'if-none-match': all.headers.etag } });
    assert.equal(same.code, 304);
    const security = all.body.items.find((item: Json) => item.metadata.name === 'security.istio.io');
    assert.deepEqual(
      security.versions.map((version: Json) => version.version),
      ['v1', 'v1beta1'],
    );
    assert.deepEqual(
      security.versions[0].resources.map(({ resource, scope, shortNames }: Json) => [
        resource,
        scope,
        shortNames,
      ]),
      [
        ['authorizationpolicies', 'Namespaced', ['ap']],
        ['peerauthentications', 'Namespaced', ['pa']],
      ],
    );
    assert.equal((await rig.call('GET', '/api')).body.kind, 'APIVersions');
    assert.equal((await rig.call('GET', '/apis')).body.kind, 'APIGroupList');
    assert.equal((await rig.call('GET', '/apis/apps')).body.preferredVersion.groupVersion, 'apps/v1');
    const core = (await rig.call('GET', '/api/v1')).body.resources.map(({ name }: Json) => name);
    for (const name of ['pods', 'pods/log', 'pods/status', 'serviceaccounts/token', 'namespaces/finalize'])
      assert.ok(core.includes(name), name);
    // What kubectl up to 1.26 asks for before it applies anything.
    const v2 = await rig.call('GET', '/openapi/v2', {
      headers: { accept: 'application/com.github.proto-openapi.spec.v2@v1.0+protobuf' },
    });
    assert.equal(v2.headers['content-type'], 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf');
    assert.ok(v2.text.startsWith('\n\x032.0\x12\x15\n\nKubernetes\x12\x07v1.37.0B'));
    assert.ok((await rig.call('GET', '/openapi/v2')).body.definitions['io.k8s.api.core.v1.Pod']);
    const index = (await rig.call('GET', '/openapi/v3')).body.paths;
    for (const { serverRelativeURL } of Object.values<Json>(index))
      assert.equal((await rig.call('GET', serverRelativeURL)).body.openapi, '3.0.0');
  });
});

test('a restart keeps objects, versions, keys and tokens, and watches resume', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'culvert-api-'));
  try {
    let before: { caPem: string; token: string; version: string; uid: string } | undefined;
    await withServerIn(folder, async (rig) => {
      const map = await made(rig, MAPS, { metadata: { name: 'a' } });
      await made(rig, '/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'web' } });
      const token = (await made(rig, '/api/v1/namespaces/default/serviceaccounts/web/token', { spec: {} }))
        .status.token;
      before = {
        caPem: rig.server.caPem,
        token,
        version: map.metadata.resourceVersion,
        uid: map.metadata.uid,
      };
    });
    for (const name of ['ca.key', 'sa.key', 'admin.key']) {
      assert.equal(statSync(join(folder, 'pki', name)).mode & 0o777, 0o600, name);
      assert.match(readFileSync(join(folder, 'pki', name), 'utf8'), /PRIVATE KEY/);
    }
    assert.equal(statSync(join(folder, 'cluster.db')).mode & 0o777, 0o600);
    await withServerIn(folder, async (rig) => {
      assert.equal(rig.server.caPem, before!.caPem);
      assert.equal((await rig.call('GET', '/api', { as: { token: before!.token } })).code, 200);
      assert.equal((await rig.call('GET', `${MAPS}/a`)).body.metadata.uid, before!.uid);
      const events = await eventsUntil(
        rig,
        `/api/v1/serviceaccounts?watch=true&resourceVersion=${before!.version}`,
        () => true,
      );
      assert.equal(`${events[0].type} ${events[0].object.metadata.name}`, 'ADDED web');
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('CEL rules over HTTP: the evaluator is there for the first write, also after a restart', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'culvert-api-'));
  const sizes = '/apis/example.io/v1/sizes';
  const spec = {
    type: 'object',
    properties: { min: { type: 'integer' }, max: { type: 'integer' } },
    'x-kubernetes-validations': [{ rule: 'self.min <= self.max', message: 'min may not exceed max' }],
  };
  const schema = { openAPIV3Schema: { type: 'object', properties: { spec } } };
  const size = (name: string, min: number): Json => ({ metadata: { name }, spec: { min, max: 5 } });
  try {
    await withServerIn(folder, async (rig) => {
      await made(rig, '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
        metadata: { name: 'sizes.example.io' },
        spec: {
          group: 'example.io',
          scope: 'Cluster',
          names: { plural: 'sizes', kind: 'Size' },
          versions: [{ name: 'v1', served: true, storage: true, schema }],
        },
      });
      await made(rig, sizes, size('good', 1));
    });
    await withServerIn(folder, async (rig) => {
      const refused = await rig.call('POST', sizes, { body: size('bad', 6) });
      assert.equal(refused.code, 422);
      assert.match(refused.body.message, /spec: Invalid value: "object": min may not exceed max/);
      const type = 'application/merge-patch+json';
      assert.equal(
        (await rig.call('PATCH', `${sizes}/good`, { body: { spec: { min: 9 } }, type })).code,
        422,
      );
      assert.equal(
        (await rig.call('PATCH', `${sizes}/good`, { body: { spec: { min: 3 } }, type })).code,
        200,
      );
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a state directory that cannot be used is said in one sentence', async () => {
  await assert.rejects(
    withServerIn('/dev/null/state', async () => {}),
    {
      code: 'LOCAL_MACHINE_FAILED',
      message: /\/dev\/null\/state\/cluster\.db cannot be opened/,
    },
  );
});

test('a port in use is said in one sentence', async () => {
  await withApiServer(async ({ server, port }) => {
    await assert.rejects(server.listen({ host: '127.0.0.1', port }), { code: 'PORT_IN_USE' });
  });
});
