import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TokenReviewer } from './ca/token-review.ts';
import type { DebugAnswer, DebugPages, DebugQuery } from './debug-page.ts';
import { debugPage } from './http.ts';

const review: TokenReviewer = async (token) => {
  const namespace = { mesh: 'istio-system', app: 'shop', ops: 'ops' }[token ?? ''];
  return namespace === undefined
    ? { kind: 'refused', reason: 'no-token', explain: 'no' }
    : { kind: 'authenticated', caller: { namespace, serviceAccount: 'x', pod: undefined } };
};
const debugPages: DebugPages = new Map<string, (query: DebugQuery) => DebugAnswer>([
  ['config_dump', ({ namespace }) => ({ status: 200, content: { of: namespace ?? 'all' } })],
  ['list', ({ besides }) => ({ status: 200, content: besides })],
  ['syncz', () => ({ status: 200, content: [] })],
]);
const profiles = { '/debug/pprof/heap': () => ({ body: 'profile' }) };
const deps = { access: { review, namespaces: ['istio-system'] }, debugPages, profiles };

const ask = (path: string, from: string | undefined, token?: string, given: Partial<typeof deps> = {}) =>
  debugPage(
    { ...deps, ...given },
    new URL(path, 'http://control'),
    from,
    token === undefined ? token : `Bearer ${token}`,
  );

describe('§10.1: who may see debug pages', () => {
  test('everybody inside the pod, accounts of the system namespace from outside, nobody else', async () => {
    const status = async (from: string | undefined, token?: string) =>
      (await ask('/debug/syncz', from, token)).status;
    for (const inside of ['127.0.0.1', '::1', '::ffff:127.0.0.1']) assert.equal(await status(inside), 200);
    for (const outside of ['10.244.1.2', 'fd00::1', '::ffff:10.0.0.1', undefined]) {
      assert.equal(await status(outside), 401);
      assert.equal(await status(outside, 'app'), 403);
      assert.equal(await status(outside, 'mesh'), 200);
    }
  });

  test('others: config_dump of the proxies of their own namespace', async () => {
    const { status, body } = await ask('/debug/config_dump?proxyID=x', '10.244.1.2', 'app');
    assert.deepEqual([status, JSON.parse(String(body))], [200, { of: 'shop' }]);
    assert.match(String((await ask('/debug/config_dump', '10.244.1.2', 'mesh')).body), /"all"/);
    assert.equal((await ask('/debug/config_dump', '10.244.1.2')).status, 401);
  });

  test('further namespaces may be let in, or all of them', async () => {
    const access = { review, namespaces: ['istio-system', 'ops'] };
    assert.equal((await ask('/debug/syncz', '10.0.0.1', 'ops', { access })).status, 200);
    assert.equal((await ask('/debug/syncz', '10.0.0.1', 'app', { access })).status, 403);
    const everybody = { access: { review, namespaces: undefined } };
    assert.equal((await ask('/debug/syncz', '10.0.0.1', 'app', everybody as never)).status, 200);
    assert.equal((await ask('/debug/syncz', '10.0.0.1', undefined, everybody as never)).status, 401);
  });

  test('profiles: inside the pod only, whoever asks', async () => {
    assert.deepEqual(await ask('/debug/pprof/heap', '::1'), {
      status: 200,
      contentType: 'text/plain; charset=utf-8',
      body: 'profile',
    });
    assert.equal((await ask('/debug/pprof/heap', '10.0.0.1')).status, 401);
    for (const token of ['app', 'mesh'])
      assert.equal((await ask('/debug/pprof/heap', '10.0.0.1', token)).status, 403);
  });
});

test('switched off, pages and profiles are not there, and the answer names the setting', async () => {
  const none = await ask('/debug/syncz', '::1', undefined, { debugPages: undefined } as never);
  assert.deepEqual([none.status, /ENABLE_DEBUG_ON_HTTP/.test(String(none.body))], [404, true]);
  const off = { profiles: undefined } as never;
  const profile = await ask('/debug/pprof/heap', '::1', undefined, off);
  assert.deepEqual([profile.status, /ENABLE_PROFILING/.test(String(profile.body))], [404, true]);
  assert.deepEqual(JSON.parse(String((await ask('/debug/list', '::1', undefined, off)).body)), []);
});

test('`list`, also where no page is named, has the profiles that are served', async () => {
  for (const path of ['/debug/list', '/debug', '/debug/'])
    assert.deepEqual(JSON.parse(String((await ask(path, '::1')).body)), ['pprof/heap']);
});
