// Connections in memory: the rights of the user they name, watches that end with either side, answers of any size.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { KubeClient, WatchEvent } from '#k8s/client.ts';
import { NAMESPACES, type Namespace, NODES, PODS } from '#k8s/objects.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { apiStatusOf } from '#k8s/status.ts';
import { type ApiRig, withApiServer } from './apiserver-rig.ts';

const namespace = (name: string): Namespace => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });

function clientAs(t: TestContext, { server, url }: ApiRig, user: string, ...groups: string[]): KubeClient {
  const client = createRestClient({ server: url, connect: () => server.connect(user, groups) });
  t.after(() => client.close());
  return client;
}

test('a part of the server’s process is who it says it is, with that user’s rights', async (t) => {
  await withApiServer(async (rig) => {
    const machine = clientAs(t, rig, 'someone', 'system:masters');
    const made = await machine.create(NAMESPACES, namespace('inside'));
    assert.equal(made.metadata.name, 'inside');
    const proxy = clientAs(t, rig, 'system:kube-proxy');
    assert.deepEqual((await proxy.list(NODES)).items, []);
    await assert.rejects(
      proxy.create(NAMESPACES, namespace('more')),
      (error) =>
        apiStatusOf(error)?.status === 403 && /User "system:kube-proxy" cannot create/.test(String(error)),
    );
    const review = await proxy.request<{ status: { userInfo: unknown } }>(
      'POST',
      '/apis/authentication.k8s.io/v1/selfsubjectreviews',
      { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' },
    );
    assert.deepEqual(review.status.userInfo, {
      username: 'system:kube-proxy',
      groups: ['system:authenticated'],
    });
  });
});

test('answers and requests of megabytes come through whole, many at once', async (t) => {
  await withApiServer(async (rig) => {
    const client = clientAs(t, rig, 'someone', 'system:masters');
    const text = 'x'.repeat(900_000);
    const names = Array.from({ length: 12 }, (_, index) => `large-${index}`);
    const maps = {
      group: '',
      version: 'v1',
      plural: 'configmaps',
      kind: 'ConfigMap',
      namespaced: true,
    } as const;
    await Promise.all(
      names.map((name) =>
        client.request('POST', '/api/v1/namespaces/default/configmaps', {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name },
          data: { text },
        }),
      ),
    );
    const { items } = await client.list(maps, { namespace: 'default' });
    const large = items.filter(({ metadata }) => names.includes(metadata.name));
    assert.equal(large.length, names.length);
    for (const item of large) assert.equal((item as { data?: { text?: string } }).data?.text, text);
  });
});

test('a watch ends when its reader leaves, and the next request is served', async (t) => {
  await withApiServer(async (rig) => {
    const client = clientAs(t, rig, 'someone', 'system:masters');
    const gone = new AbortController();
    const seen: WatchEvent<unknown>[] = [];
    const reading = (async () => {
      for await (const event of client.watch(NAMESPACES, { sendInitialEvents: true, signal: gone.signal })) {
        seen.push(event);
        if (event.type === 'BOOKMARK' && event.initialEventsEnd) gone.abort();
      }
    })();
    await reading;
    assert.ok(seen.some((event) => event.type === 'ADDED'));
    assert.ok((await client.list(NAMESPACES)).items.length > 0);
  });
});

test('the end of the server ends watches inside, and later connections', async (t) => {
  let client: KubeClient | undefined;
  const started = Promise.withResolvers<void>();
  let ended: Promise<unknown> = Promise.resolve();
  await withApiServer(async (rig) => {
    const mine = clientAs(t, rig, 'someone', 'system:masters');
    client = mine;
    ended = (async () => {
      for await (const event of mine.watch(PODS, { sendInitialEvents: true }))
        if (event.type === 'BOOKMARK') started.resolve();
    })().catch((error: unknown) => error);
    await started.promise;
  });
  assert.match(String(await ended), /no answer from the API server/);
  await assert.rejects(client!.list(PODS), /no answer from the API server/);
});
