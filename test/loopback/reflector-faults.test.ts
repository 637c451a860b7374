// An informer over real TLS against an API server that misbehaves in every way that one knows of. What it holds must
// stay, be completed, and be told to handlers once.

import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type TestContext, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { objectKey } from '#k8s/informer.ts';
import { CONFIG_MAPS, type ConfigMap } from '#k8s/objects.ts';
import { startInformer } from '#k8s/reflector.ts';
import { createRestClient, type RestClientOptions } from '#k8s/rest-client.ts';
import { createLogger } from '#telemetry/log.ts';
import { serveHttps } from '../lib/https-server.ts';
import { untilTelling } from '../lib/until.ts';

interface Asked {
  readonly kind: 'list' | 'watch' | 'watch-list';
  readonly from: string | null;
  readonly authorization: string | undefined;
  readonly atMs: number;
}
type Answer = (response: ServerResponse, asked: Asked) => void;

const map = (name: string, version: number): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'ns', uid: `uid-${name}`, resourceVersion: String(version) },
});
const line = (type: string, object: unknown): string => `${JSON.stringify({ type, object })}\n`;
const added = (name: string, version: number): string => line('ADDED', map(name, version));
const bookmark = (version: number, end = false): string =>
  line('BOOKMARK', {
    metadata: {
      resourceVersion: String(version),
      ...(end ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {}),
    },
  });
const status = (code: number, reason: string) => ({
  kind: 'Status',
  code,
  reason,
  message: `${reason}, says the test`,
});

/** Sends and leaves the stream open. */
const stream =
  (...lines: string[]): Answer =>
  (response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    for (const text of lines) response.write(text);
  };
/** Sends and ends the stream. */
const ended =
  (...lines: string[]): Answer =>
  (response) =>
    void response.writeHead(200).end(lines.join(''));
const refused =
  (code: number, reason: string, headers = {}): Answer =>
  (response) =>
    void response.writeHead(code, headers).end(JSON.stringify(status(code, reason)));
const listed =
  (version: number, ...items: ConfigMap[]): Answer =>
  (response) =>
    void response
      .writeHead(200)
      .end(JSON.stringify({ metadata: { resourceVersion: String(version) }, items }));

/** An informer of a server that gives these answers, one by one, and the last one to all that follows. */
async function observe(
  t: TestContext,
  answers: readonly Answer[],
  options: RestClientOptions & { token?: () => string } = {},
) {
  const asked: Asked[] = [];
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const { searchParams } = new URL(request.url ?? '', 'https://x');
    const kind = !searchParams.has('watch')
      ? 'list'
      : searchParams.has('sendInitialEvents')
        ? 'watch-list'
        : 'watch';
    const entry: Asked = {
      kind,
      from: searchParams.get('resourceVersion'),
      authorization: request.headers.authorization,
      atMs: performance.now(),
    };
    asked.push(entry);
    answers[Math.min(asked.length, answers.length) - 1]?.(response, entry);
  };
  let api = await serveHttps(t, onRequest);
  const { token = () => 'token', ...rest } = options;
  const client = createRestClient({ ...api.endpoint, token }, rest);
  const lines: string[] = [];
  const log = createLogger('test', { format: 'plain', level: 'warn', write: (text) => lines.push(text) });
  const informer = startInformer({ client, log }, CONFIG_MAPS);
  const told: string[] = [];
  informer.addHandlers({
    upsert: ({ metadata }, old) =>
      told.push(`${old === undefined ? 'new' : 'changed'} ${metadata.name}@${metadata.resourceVersion}`),
    remove: ({ metadata }) => told.push(`gone ${metadata.name}`),
  });
  t.after(async () => {
    informer.close();
    client.close();
    await api.close();
  });
  return {
    asked,
    told,
    lines,
    held: () => [...informer.all()].map(objectKey).sort(),
    stop: () => api.close(),
    start: async () => {
      api = await serveHttps(t, onRequest, {}, api.port);
    },
    /** What was asked, as `kind@version`. */
    steps: () => asked.map(({ kind, from }) => (from === null ? kind : `${kind}@${from}`)),
    until: untilTelling(() => `${told}; ${asked.map(({ kind, from }) => `${kind}@${from}`)}`),
  };
}

const whole = stream(added('a', 1), added('b', 2), bookmark(5, true));

test('a watch that falls silent is noticed, and goes on where it was', async (t) => {
  const seen = await observe(
    t,
    [stream(added('a', 1), bookmark(5, true), added('b', 6)), stream(added('c', 7))],
    {
      watchSilenceMs: 200,
    },
  );
  await seen.until('the third object', () => seen.told.length === 3);
  assert.deepEqual(seen.told, ['new a@1', 'new b@6', 'new c@7']);
  assert.deepEqual(seen.steps().slice(0, 2), ['watch-list', 'watch@6']);
  assert.match(seen.lines.join(''), /silent for 200 ms/);
});

test('bookmarks are no silence: a quiet watch that sends them stays open', async (t) => {
  let beats = 0;
  const seen = await observe(
    t,
    [
      (response, asked) => {
        whole(response, asked);
        const timer = setInterval(() => response.write(bookmark(10 + beats++)), 50);
        response.on('close', () => clearInterval(timer));
      },
    ],
    // Generous to a machine that is busy: many beats fit.
    { watchSilenceMs: 3000 },
  );
  await seen.until('more time than the limit', () => beats >= 80);
  assert.deepEqual(seen.steps(), ['watch-list']);
});

for (const [what, answer] of Object.entries<Answer>({
  'half a line, then the end': ended(added('a', 1), bookmark(5, true), added('b', 6).slice(0, 40)),
  'half a line, then a reset': (response) => {
    response.write(added('a', 1) + bookmark(5, true) + added('b', 6).slice(0, 40), () =>
      response.socket?.destroy(),
    );
  },
  'no JSON at all': ended(added('a', 1), bookmark(5, true), '<html>proxy error</html>\n'),
  'an event of no kind': ended(added('a', 1), bookmark(5, true), line('SURPRISE', map('x', 9))),
  'an orderly end, as by a server that shuts down': (response) =>
    void response.writeHead(200, { connection: 'close' }).end(added('a', 1) + bookmark(5, true)),
}))
  test(`${what}: nothing is lost, nothing repeated`, async (t) => {
    const seen = await observe(t, [answer, stream(added('b', 6))]);
    await seen.until('the second object', () => seen.told.length === 2);
    assert.deepEqual(seen.told, ['new a@1', 'new b@6']);
    assert.deepEqual(seen.steps().slice(0, 2), ['watch-list', 'watch@5']);
  });

for (const [what, gone] of Object.entries<Answer>({
  'in the stream': ended(line('ERROR', status(410, 'Expired'))),
  'as the answer': refused(410, 'Gone'),
  'a version of the future, after a restore': refused(504, 'Timeout'),
}))
  test(`compacted, ${what}: listed again, compared with what is held`, async (t) => {
    const seen = await observe(t, [
      ended(added('a', 1), added('b', 2), bookmark(5, true)),
      gone,
      stream(added('b', 2), added('c', 9), bookmark(9, true)),
    ]);
    await seen.until('all changes', () => seen.told.length === 4);
    assert.deepEqual(seen.told, ['new a@1', 'new b@2', 'gone a', 'new c@9']);
    assert.deepEqual(seen.steps().slice(0, 3), ['watch-list', 'watch@5', 'watch-list']);
  });

test('compacted while it is listed: listed once more', async (t) => {
  const seen = await observe(t, [
    refused(422, 'Invalid'),
    refused(410, 'Expired'),
    listed(7, map('a', 1)),
    stream(added('b', 8)),
  ]);
  await seen.until('both', () => seen.told.length === 2);
  assert.deepEqual(seen.steps(), ['watch-list', 'list', 'list', 'watch@7']);
});

test('compacted between two pages of a list: listed whole; what the first page said is forgotten', async (t) => {
  const page: Answer = (response) =>
    void response
      .writeHead(200)
      .end(JSON.stringify({ metadata: { resourceVersion: '7', continue: 'more' }, items: [map('gone', 1)] }));
  const seen = await observe(t, [
    refused(422, 'Invalid'),
    page,
    refused(410, 'Expired'),
    listed(9, map('a', 8)),
    stream(added('b', 10)),
  ]);
  await seen.until('both', () => seen.told.length === 2);
  assert.deepEqual(seen.told, ['new a@8', 'new b@10']);
  assert.deepEqual(seen.steps(), ['watch-list', 'list', 'list', 'list', 'watch@9']);
});

test('429 with Retry-After: left alone for as long as it asks', async (t) => {
  const seen = await observe(t, [refused(429, 'TooManyRequests', { 'retry-after': '1' }), whole]);
  await seen.until('the list', () => seen.told.length === 2);
  const [first, second] = seen.asked;
  assert.ok(first !== undefined && second !== undefined);
  assert.ok(second.atMs - first.atMs >= 990, `asked again after ${second.atMs - first.atMs} ms`);
});

test('500, 503 and an answer in plain text: what is held stays, told once in the log, tried again', async (t) => {
  const seen = await observe(t, [
    ended(added('a', 1), bookmark(5, true)),
    refused(500, 'InternalError'),
    refused(500, 'InternalError'),
    refused(503, 'ServiceUnavailable'),
    (response) => void response.writeHead(502).end('bad gateway'),
    stream(added('b', 6)),
  ]);
  await seen.until('the second object', () => seen.told.length === 2);
  assert.deepEqual(seen.told, ['new a@1', 'new b@6']);
  assert.ok(
    seen
      .steps()
      .slice(1)
      .every((step) => step === 'watch@5'),
  );
  assert.equal(seen.lines.filter((text) => text.includes('InternalError')).length, 1);
});

test('a server that ignores the demand for initial events is listed', async (t) => {
  const seen = await observe(t, [
    stream(added('a', 1), bookmark(5)),
    listed(7, map('a', 1), map('b', 6)),
    stream(added('c', 8)),
  ]);
  await seen.until('all', () => seen.told.length === 3);
  assert.deepEqual(seen.told, ['new a@1', 'new b@6', 'new c@8']);
  assert.deepEqual(seen.steps(), ['watch-list', 'list', 'watch@7']);
});

test('so is one that ends the stream before the list is whole', async (t) => {
  const seen = await observe(t, [ended(added('a', 1)), listed(7, map('a', 1)), stream()]);
  await seen.until('the list', () => seen.told.length === 1);
  assert.deepEqual(seen.steps().slice(0, 2), ['watch-list', 'list']);
});

test('a token that was replaced is read again', async (t) => {
  let token = 'old';
  const unauthorized = refused(401, 'Unauthorized');
  const seen = await observe(
    t,
    [
      (response, asked) => {
        unauthorized(response, asked);
        token = 'new';
      },
      (response, asked) => (asked.authorization === 'Bearer new' ? whole : unauthorized)(response, asked),
    ],
    { token: () => token },
  );
  await seen.until('the list', () => seen.told.length === 2);
  assert.deepEqual(
    seen.asked.map(({ authorization }) => authorization),
    ['Bearer old', 'Bearer new'],
  );
});

test('a token file that is missing for a moment is waited for', async (t) => {
  let reads = 0;
  const seen = await observe(t, [whole], {
    token: () => {
      if (reads++ === 0) throw new MeshError('CONFIG_INVALID', 'cannot read the token');
      return 'token';
    },
  });
  await seen.until('the list', () => seen.told.length === 2);
});

test('a server that is away: everything is held, nobody is told anything; back, it goes on where it was', async (t) => {
  const seen = await observe(t, [whole, stream(added('c', 6))]);
  await seen.until('the list', () => seen.told.length === 2);
  await seen.stop();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.deepEqual(seen.held(), ['ns/a', 'ns/b']);
  await seen.start();
  await seen.until('the change', () => seen.told.length === 3);
  assert.deepEqual(seen.told, ['new a@1', 'new b@2', 'new c@6']);
  assert.equal(seen.steps().at(1), 'watch@5');
  assert.ok(seen.lines.length <= 4, 'an absence does not fill the log');
});
