// The REST client over real TLS against a small scripted server.

import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type TestContext, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { CONFIG_MAPS, type ConfigMap, NAMESPACES, PODS } from '#k8s/objects.ts';
import { createRestClient, type RestClientOptions } from '#k8s/rest-client.ts';
import { createAuthority } from '#tls/issue.ts';
import { serveHttps, testRoot } from '../lib/https-server.ts';

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}
type Answer = (seen: Seen, response: ServerResponse) => void;

async function serve(t: TestContext, answer: Answer, options: RestClientOptions = {}) {
  const seen: Seen[] = [];
  const api = await serveHttps(t, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const entry = { method, url, headers, body: Buffer.concat(chunks).toString() };
      seen.push(entry);
      answer(entry, response);
    });
  });
  const client: KubeClient = createRestClient(
    { ...api.endpoint, token: () => `token-${seen.length}` },
    options,
  );
  t.after(() => client.close());
  return { client, seen, api };
}

const json = (response: ServerResponse, status: number, body: unknown): void => {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
};

const configMap: ConfigMap = {
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'a', namespace: 'ns' },
};

test('every verb: method, path, content type, body, and a fresh token each time', async (t) => {
  const { client, seen } = await serve(t, (_, response) => json(response, 200, { metadata: { name: 'x' } }));
  await client.get(CONFIG_MAPS, 'a', 'ns');
  await client.get(NAMESPACES, 'ns');
  await client.create(CONFIG_MAPS, configMap);
  await client.create(
    PODS,
    { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [] } },
    'other',
  );
  await client.update(CONFIG_MAPS, configMap);
  await client.updateStatus(CONFIG_MAPS, configMap);
  await client.patch(CONFIG_MAPS, 'a', 'merge', { data: null }, { namespace: 'ns' });
  await client.patch(CONFIG_MAPS, 'a', 'apply', configMap, { namespace: 'ns', fieldManager: 'me' });
  await client.patch(CONFIG_MAPS, 'a', 'json', [], { namespace: 'ns', subresource: 'status' });
  await client.delete(CONFIG_MAPS, 'a', {
    namespace: 'ns',
    uid: 'u',
    gracePeriodSeconds: 0,
    propagation: 'Background',
  });
  await client.request('POST', '/apis/authentication.k8s.io/v1/tokenreviews', { spec: {} });
  assert.deepEqual(
    seen.map(({ method, url, headers }) => `${method} ${url} ${headers['content-type'] ?? '-'}`),
    [
      'GET /api/v1/namespaces/ns/configmaps/a -',
      'GET /api/v1/namespaces/ns -',
      'POST /api/v1/namespaces/ns/configmaps application/json',
      'POST /api/v1/namespaces/other/pods application/json',
      'PUT /api/v1/namespaces/ns/configmaps/a application/json',
      'PUT /api/v1/namespaces/ns/configmaps/a/status application/json',
      'PATCH /api/v1/namespaces/ns/configmaps/a application/merge-patch+json',
      'PATCH /api/v1/namespaces/ns/configmaps/a?fieldManager=me&force=true application/apply-patch+yaml',
      'PATCH /api/v1/namespaces/ns/configmaps/a/status application/json-patch+json',
      'DELETE /api/v1/namespaces/ns/configmaps/a application/json',
      'POST /apis/authentication.k8s.io/v1/tokenreviews application/json',
    ],
  );
  assert.deepEqual(JSON.parse(seen[9]?.body ?? ''), {
    apiVersion: 'v1',
    kind: 'DeleteOptions',
    gracePeriodSeconds: 0,
    preconditions: { uid: 'u' },
    propagationPolicy: 'Background',
  });
  assert.deepEqual(
    seen.slice(0, 3).map(({ headers }) => headers.authorization),
    ['Bearer token-0', 'Bearer token-1', 'Bearer token-2'],
  );
});

test('list: selectors in the query, types restored, null items', async (t) => {
  const answers = [
    { metadata: { resourceVersion: '42' }, items: [{ metadata: { name: 'a' } }] },
    { metadata: { resourceVersion: '43' }, items: null },
  ];
  const { client, seen } = await serve(t, (_, response) => json(response, 200, answers.shift()));
  const list = await client.list(CONFIG_MAPS, {
    labelSelector: 'a in (b,c)',
    fieldSelector: 'metadata.name=x',
  });
  assert.deepEqual(list, {
    resourceVersion: '42',
    items: [{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a' } }],
  });
  assert.deepEqual((await client.list(CONFIG_MAPS, { namespace: 'ns' })).items, []);
  const url = new URL(seen[0]?.url ?? '', 'https://x');
  assert.equal(url.pathname, '/api/v1/configmaps');
  assert.deepEqual(Object.fromEntries(url.searchParams), {
    limit: '500',
    labelSelector: 'a in (b,c)',
    fieldSelector: 'metadata.name=x',
  });
});

/** A server of one list in pages: by the token that asks for it. */
async function servePages(t: TestContext, pages: Readonly<Record<string, Answer>>) {
  const { client, seen } = await serve(t, (entry, response) => {
    const { searchParams } = new URL(entry.url, 'https://x');
    pages[searchParams.has('limit') ? (searchParams.get('continue') ?? 'first') : 'whole']?.(entry, response);
  });
  return {
    names: async () => {
      const { items, resourceVersion } = await client.list(CONFIG_MAPS, { labelSelector: 'app=x' });
      return [resourceVersion, ...items.map(({ metadata }) => metadata.name)].join(' ');
    },
    asked: () => seen.map(({ url }) => new URL(url, 'https://x').search),
  };
}
const page =
  (names: string, next?: string, resourceVersion = '7'): Answer =>
  (_, response) =>
    json(response, 200, {
      metadata: { resourceVersion, ...(next === undefined ? {} : { continue: next }) },
      items: names === '' ? null : names.split(' ').map((name) => ({ metadata: { name } })),
    });

test('list: page after page, until none is announced; all of the version of the first', async (t) => {
  const { names, asked } = await servePages(t, {
    first: page('a b', 'one'),
    one: page('', 'two'),
    two: page('c', ''),
  });
  assert.equal(await names(), '7 a b c');
  assert.deepEqual(asked(), [
    '?labelSelector=app%3Dx&limit=500',
    '?labelSelector=app%3Dx&limit=500&continue=one',
    '?labelSelector=app%3Dx&limit=500&continue=two',
  ]);
});

test('list: compacted between two pages, all is asked for once more, at once', async (t) => {
  const { names, asked } = await servePages(t, {
    first: page('a b', 'one'),
    one: (_, response) => json(response, 410, { kind: 'Status', code: 410, reason: 'Expired' }),
    whole: page('b c', undefined, '9'),
  });
  assert.equal(await names(), '9 b c');
  assert.equal(asked().at(-1), '?labelSelector=app%3Dx');
});

test('list: a page that is refused for another reason fails the list', async (t) => {
  const { names } = await servePages(t, {
    first: page('a', 'one'),
    one: (_, response) => json(response, 500, { kind: 'Status', code: 500, message: 'no' }),
  });
  await assert.rejects(names, { code: 'API_STATUS', message: 'no' });
});

test('a client certificate that was replaced is used from the next request on; a pair that does not fit fails it', async (t) => {
  const root = await testRoot;
  const [first, second] = await Promise.all(
    ['first', 'second'].map((commonName) => root.issue({ commonName, client: true, validForMs: 3_600_000 })),
  );
  const callers: string[] = [];
  const { endpoint } = await serveHttps(
    t,
    (request, response) => {
      callers.push(String((request.socket as TLSSocket).getPeerCertificate().subject.CN));
      json(response, 200, { metadata: { name: 'x' } });
    },
    { ca: root.certPem, requestCert: true },
  );
  let pair = { clientCertPem: first?.certPem, clientKeyPem: first?.keyPem };
  const client = createRestClient({ ...endpoint, tls: () => ({ caPem: root.certPem, ...pair }) });
  t.after(() => client.close());
  await client.get(NAMESPACES, 'x');
  await client.get(NAMESPACES, 'x');
  // The files are replaced one after the other.
  pair = { ...pair, clientCertPem: second?.certPem };
  await assert.rejects(client.get(NAMESPACES, 'x'), {
    code: 'CONFIG_INVALID',
    message: /the certificates for https:.* cannot be used/,
  });
  pair = { ...pair, clientKeyPem: second?.keyPem };
  await client.get(NAMESPACES, 'x');
  assert.deepEqual(callers, ['first', 'first', 'second']);
});

test("refusals carry the server's words; other answers are named too", async (t) => {
  const { client } = await serve(t, (seen, response) => {
    if (seen.url.endsWith('/plain')) response.writeHead(502).end('bad gateway\n');
    else if (seen.url.endsWith('/html')) response.writeHead(200).end('<html>');
    else
      json(response, 409, {
        kind: 'Status',
        code: 409,
        reason: 'Conflict',
        message: 'the object has been modified',
      });
  });
  await assert.rejects(client.update(CONFIG_MAPS, configMap), (error) => {
    assert.ok(error instanceof MeshError);
    assert.equal(error.code, 'API_STATUS');
    assert.equal(error.message, 'the object has been modified');
    assert.deepEqual(error.details, { status: 409, reason: 'Conflict' });
    return true;
  });
  await assert.rejects(client.request('GET', '/api/plain'), { code: 'API_STATUS', message: 'bad gateway' });
  await assert.rejects(client.request('GET', '/api/html'), { code: 'API_UNREACHABLE' });
});

test('no answer: refused connections and answers that never come', async (t) => {
  const { client, api } = await serve(t, () => {}, { requestTimeoutMs: 50 });
  await assert.rejects(client.get(NAMESPACES, 'x'), (error) => {
    assert.ok(error instanceof MeshError && error.code === 'API_UNREACHABLE');
    assert.match(error.message, /no complete answer to GET \/api\/v1\/namespaces\/x in 50 ms/);
    return true;
  });
  await api.close();
  await assert.rejects(client.get(NAMESPACES, 'x'), { code: 'API_UNREACHABLE', message: /ECONNREFUSED/ });
});

test('a server with another root is not trusted', async (t) => {
  const { endpoint } = await serveHttps(t, (_, response) => json(response, 200, {}));
  const other = await createAuthority({ commonName: 'other root', validDays: 1 });
  const client = createRestClient({ ...endpoint, tls: () => ({ caPem: other.certPem }) });
  t.after(() => client.close());
  await assert.rejects(client.get(NAMESPACES, 'x'), { code: 'API_UNREACHABLE' });
});

test('a kept-alive connection that the server closed is replaced without a word', async (t) => {
  const { client, api } = await serve(t, (_, response) => json(response, 200, { metadata: { name: 'x' } }));
  await client.get(NAMESPACES, 'x');
  api.server.closeAllConnections();
  await client.get(NAMESPACES, 'x');
});

test('watch: query, events, bookmarks, the ERROR event, and an abort that just ends it', async (t) => {
  const event = (type: string, object: unknown): string => `${JSON.stringify({ type, object })}\n`;
  const { client, seen } = await serve(
    t,
    ({ url }, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      const initial = url.includes('sendInitialEvents');
      const text =
        event('ADDED', { metadata: { name: 'ä', resourceVersion: '1' } }) +
        event('BOOKMARK', {
          metadata: {
            resourceVersion: '5',
            ...(initial ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {}),
          },
        });
      for (const byte of Buffer.from(text)) response.write(Buffer.of(byte));
      if (!initial)
        response.end(event('ERROR', { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' }));
    },
    { random: () => 0.5 },
  );
  const aborter = new AbortController();
  const types: string[] = [];
  for await (const event of client.watch(CONFIG_MAPS, { sendInitialEvents: true, signal: aborter.signal })) {
    if (event.type === 'BOOKMARK') {
      types.push(`bookmark ${event.resourceVersion} ${event.initialEventsEnd}`);
      aborter.abort();
    } else types.push(`${event.type} ${event.object.kind} ${event.object.metadata.name}`);
  }
  assert.deepEqual(types, ['ADDED ConfigMap ä', 'bookmark 5 true']);
  assert.deepEqual(Object.fromEntries(new URL(seen[0]?.url ?? '', 'https://x').searchParams), {
    watch: 'true',
    allowWatchBookmarks: 'true',
    timeoutSeconds: '290',
    sendInitialEvents: 'true',
    resourceVersionMatch: 'NotOlderThan',
  });
  await assert.rejects(
    async () => {
      for await (const _ of client.watch(CONFIG_MAPS, { resourceVersion: '1' }));
    },
    { code: 'API_STATUS', message: 'too old' },
  );
});

test('a watch that breaks off is unreachable, not ended', async (t) => {
  const { client } = await serve(t, (_, response) => {
    response.writeHead(200);
    response.write('{"type":"ADDED",', () => response.destroy());
  });
  await assert.rejects(
    async () => {
      for await (const _ of client.watch(CONFIG_MAPS, {}));
    },
    { code: 'API_UNREACHABLE' },
  );
});

test('streams decode characters that are split over chunks', async (t) => {
  const { client } = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' });
    for (const byte of Buffer.from('grün €\n')) response.write(Buffer.of(byte));
    response.end();
  });
  let text = '';
  for await (const piece of client.stream('/api/v1/namespaces/ns/pods/p/log')) text += piece;
  assert.equal(text, 'grün €\n');
});
