// What is removed, what stays and what is refused, over a cluster in memory.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import type { KubeClient, ListOptions } from '#k8s/client.ts';
import { type KubeObject, NAMESPACES, type Resource } from '#k8s/objects.ts';
import { checkInstall } from './install.ts';
import { planUninstall, uninstall } from './uninstall.ts';

const OURS = { 'app.kubernetes.io/managed-by': 'culvert' };

function object(
  kind: string,
  name: string,
  change: { namespace?: string; labels?: Record<string, string> } = {},
): KubeObject {
  return {
    apiVersion: 'v1',
    kind,
    metadata: { name, ...change },
    ...(kind === 'CustomResourceDefinition' ? DEFINITION : {}),
  };
}
const DEFINITION = {
  spec: {
    group: 'security.istio.io',
    names: { plural: 'authorizationpolicies', kind: 'AuthorizationPolicy' },
    versions: [{ name: 'v1', storage: true }],
  },
};

/** Lists and gets only; discovery knows what the mesh's namespace may hold. */
function cluster(...objects: readonly KubeObject[]): KubeClient {
  const matches = (candidate: KubeObject, selector: string): boolean =>
    selector.split(',').every((pair) => {
      const [key = '', value] = pair.split('=');
      return candidate.metadata.labels?.[key] === value;
    });
  const list = ({ kind }: Resource, { namespace, labelSelector }: ListOptions = {}): Promise<unknown> =>
    Promise.resolve({
      resourceVersion: '1',
      items: objects.filter(
        (candidate) =>
          candidate.kind === kind &&
          (namespace === undefined || candidate.metadata.namespace === namespace) &&
          (labelSelector === undefined || matches(candidate, labelSelector)),
      ),
    });
  const named = ['ConfigMap', 'Secret', 'ServiceAccount', 'AuthorizationPolicy', 'Pod', 'Deployment'].map(
    (kind) => ({
      name: `${kind.toLowerCase()}s`,
      kind,
      namespaced: true,
      verbs: ['list'],
    }),
  );
  return {
    list,
    get: (resource: Resource, name: string) => {
      const found = objects.find(({ kind, metadata }) => kind === resource.kind && metadata.name === name);
      return found === undefined
        ? Promise.reject(
            new MeshError('API_STATUS', 'not found', { details: { status: 404, reason: 'NotFound' } }),
          )
        : Promise.resolve(found);
    },
    request: (_method: string, path: string) =>
      Promise.resolve(path === '/apis' ? { groups: [] } : { resources: named }),
  } as unknown as KubeClient;
}

const installed = [
  object('Deployment', 'istiod', { namespace: 'istio-system', labels: OURS }),
  object('DaemonSet', 'ztunnel', { namespace: 'istio-system', labels: OURS }),
  object('CustomResourceDefinition', 'authorizationpolicies.security.istio.io', { labels: OURS }),
  object('Namespace', 'istio-system', { labels: OURS }),
  object('Secret', 'istio-ca-secret', { namespace: 'istio-system' }),
  object('ServiceAccount', 'default', { namespace: 'istio-system' }),
  object('ConfigMap', 'istio-ca-root-cert', { namespace: 'shop', labels: { 'istio.io/config': 'true' } }),
  object('ConfigMap', 'istio-ca-crl', { namespace: 'shop', labels: { 'istio.io/config': 'true' } }),
  object('Deployment', 'web', { namespace: 'shop' }),
];
const gentle = { force: false, purge: false };
const names = (plan: { remove: readonly { object: KubeObject }[] }): string[] =>
  plan.remove.map(({ object: { kind, metadata } }) => `${kind} ${metadata.name}`);
const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof MeshError && error.code === 'REFUSED' && pattern.test(error.message);

test('what install made goes, in an order in which nothing hangs; what others made stays', async () => {
  const plan = await planUninstall(cluster(...installed), gentle);
  assert.deepEqual(names(plan), [
    'DaemonSet ztunnel',
    'Deployment istiod',
    'CustomResourceDefinition authorizationpolicies.security.istio.io',
    'ConfigMap istio-ca-root-cert',
    'ConfigMap istio-ca-crl',
    'Namespace istio-system',
  ]);
  assert.deepEqual(plan.keep, []);
});

test('a definition with objects, and a namespace with things of others, stay with their reason', async () => {
  const policy = object('AuthorizationPolicy', 'deny-all', { namespace: 'istio-system' });
  const plan = await planUninstall(cluster(...installed, policy), gentle);
  assert.ok(!names(plan).includes('Namespace istio-system'));
  assert.equal(plan.keep.length, 2);
  assert.match(plan.keep[0] ?? '', /authorizationpolicies.*: 1 object of it exist/);
  assert.match(plan.keep[1] ?? '', /Namespace istio-system: .*AuthorizationPolicy istio-system\/deny-all/);
  const purged = await planUninstall(cluster(...installed, policy), { force: false, purge: true });
  assert.ok(names(purged).includes('Namespace istio-system'));
});

test('while somebody is in the mesh it is refused, unless it is meant', async () => {
  const enrolled = { 'istio.io/dataplane-mode': 'ambient' };
  const shop = object('Namespace', 'shop', { labels: enrolled });
  const pod = object('Pod', 'db-0', { namespace: 'data', labels: enrolled });
  await assert.rejects(
    planUninstall(cluster(...installed, shop, pod), gentle),
    refused(/namespace shop and pod data\/db-0 is still in the mesh/),
  );
  assert.ok(
    (await planUninstall(cluster(...installed, shop), { force: true, purge: false })).remove.length > 0,
  );
});

test('without an installation there is nothing to remove', async () => {
  await assert.rejects(
    planUninstall(cluster(object('Namespace', 'istio-system')), gentle),
    refused(/nothing to remove/),
  );
});

test("somebody else's mesh is not overwritten", async () => {
  const foreign = object('Deployment', 'istiod', { namespace: 'istio-system', labels: { app: 'istiod' } });
  await assert.rejects(
    checkInstall(cluster(foreign), []),
    refused(/Deployment istio-system\/istiod was not made by/),
  );
});

test('a profile without proxies is refused while somebody needs them', async () => {
  const shop = object('Namespace', 'shop', { labels: { 'istio.io/dataplane-mode': 'ambient' } });
  await assert.rejects(
    checkInstall(cluster(...installed, shop), []),
    refused(/removes the node proxies, and namespace shop/),
  );
  await checkInstall(cluster(...installed), []);
});

test('removing waits until the namespace is gone, so that installing again finds a clean place', async () => {
  let looks = 0;
  const client = {
    ...cluster(),
    delete: () => Promise.resolve(),
    get: () => {
      looks += 1;
      return looks < 3
        ? Promise.resolve(object('Namespace', 'istio-system'))
        : cluster().get(NAMESPACES, 'istio-system');
    },
  } as unknown as KubeClient;
  const plan = { remove: [{ resource: NAMESPACES, object: object('Namespace', 'istio-system') }], keep: [] };
  await uninstall(client, plan, { limitMs: 60_000 });
  assert.equal(looks, 3);
  await assert.rejects(
    uninstall(
      { ...client, get: () => Promise.resolve(object('Namespace', 'x')) } as unknown as KubeClient,
      plan,
      {
        limitMs: 1,
      },
    ),
    /namespace istio-system is still ending/,
  );
});
