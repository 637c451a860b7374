// The API server as the machine runs it. Roles: the mesh's programs do with what deploy/ grants them, every rule there is
// used, every component has an identity of its own, and a refusal that nobody announced fails the run. Rules of
// definitions: the bundled program finds their evaluator.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { PODS } from '#k8s/objects.ts';
import type { PolicyRule, Role, RoleBinding } from '#k8s/rbac.ts';
import { projectDir, until } from './harness.ts';
import { sharedMesh } from './lib/shared-mesh.ts';

interface LedgerEntry {
  readonly user: string;
  readonly verb: string;
  readonly group?: string;
  readonly resource?: string;
  readonly count: number;
}

interface Ledger {
  readonly granted: readonly LedgerEntry[];
  readonly denied: readonly (LedgerEntry & { readonly message: string })[];
}

const theMesh = sharedMesh();

// The REST client asks for paths below /api and /apis only.
const ledger = async (): Promise<Ledger> =>
  JSON.parse(await theMesh().kubectl('get', '--raw', '/debug/access')) as Ledger;

/** `verb group/resource` of every rule that deploy/ gives to a service account. */
function grantedByDeploy(): Map<string, Set<string>> {
  const folder = join(projectDir, 'deploy');
  const objects = readdirSync(folder)
    .filter((name) => name.endsWith('.yaml'))
    .flatMap((name) => parseAllDocuments(readFileSync(join(folder, name), 'utf8')))
    .map((document) => document.toJS() as Role & RoleBinding & { rules?: PolicyRule[] });
  const found = new Map<string, Set<string>>();
  for (const { kind, roleRef, subjects, metadata } of objects) {
    if (kind !== 'RoleBinding' && kind !== 'ClusterRoleBinding') continue;
    const role = objects.find(
      (each) =>
        each.kind === roleRef.kind &&
        each.metadata.name === roleRef.name &&
        (each.kind === 'ClusterRole' || each.metadata.namespace === metadata.namespace),
    );
    for (const { name, namespace } of subjects ?? []) {
      const user = `system:serviceaccount:${namespace}:${name}`;
      const held = found.get(user) ?? new Set<string>();
      found.set(user, held);
      for (const { verbs, apiGroups = [], resources = [] } of role?.rules ?? [])
        for (const verb of verbs)
          for (const group of apiGroups)
            for (const resource of resources) held.add(`${verb} ${group}/${resource}`);
    }
  }
  return found;
}

/**
 * Granted, needed, and not to be seen in a run this short. Each with its reason; a rule that is neither used nor here is
 * one too many. `list` goes with every `watch`: servers without WatchList are listed first.
 */
const RARE: Readonly<Record<string, readonly string[]>> = {
  'system:serviceaccount:istio-system:istiod': [
    'update /secrets', // the authority is renewed near its end
    'get /configmaps', // another replica was first to write the root into a namespace
  ],
  'system:serviceaccount:istio-system:istio-cni': [
    'get /pods', // the plugin's call came before the watch told of the pod
    'get /namespaces',
  ],
};

const gatewayDefinition = (kind: string, scope: string): string => {
  const plural = `${kind.toLowerCase()}${kind.endsWith('s') ? 'es' : 's'}`;
  return `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: ${plural}.gateway.networking.k8s.io }
spec:
  group: gateway.networking.k8s.io
  scope: ${scope}
  names: { kind: ${kind}, plural: ${plural} }
  versions:
    - name: v1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
`;
};
/** An entry that waits for an address, and one of each kind of which the control plane says something. */
const SPOKEN_OF = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: outside, namespace: shop }
spec:
  hosts: [outside.example]
  ports: [{ number: 80, name: http, protocol: HTTP }]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: { name: outside, namespace: shop, labels: { istio.io/use-waypoint: nobody } }
spec: { address: 192.0.2.7 }
---
apiVersion: v1
kind: Service
metadata: { name: through-nobody, namespace: shop, labels: { istio.io/use-waypoint: nobody } }
spec: { ports: [{ port: 80 }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: for-nobody, namespace: shop }
spec: { selector: { matchLabels: { app: nobody } } }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: for-nobody, namespace: shop }
spec: { selector: { matchLabels: { app: nobody } }, mtls: { mode: PERMISSIVE } }
`;

test('every rule in deploy/ is used by the program that has it', async () => {
  const mesh = theMesh();
  // A root that was bent is put right: the control plane's only update.
  await mesh.kubectl(
    'patch',
    'cm',
    'istio-ca-root-cert',
    '-n',
    'shop',
    '--type=merge',
    '-p',
    '{"data":{"root-cert.pem":"x"}}',
  );
  // Kinds that are watched once the cluster has them, and objects whose status is written.
  await mesh.apply(
    [
      gatewayDefinition('Gateway', 'Namespaced'),
      gatewayDefinition('GatewayClass', 'Cluster'),
      SPOKEN_OF,
    ].join('---'),
  );
  // Started again it reads everything anew, its authority too.
  process.kill(mesh.pidOf('control'), 'SIGKILL');
  const unused = async (): Promise<string[]> => {
    const { granted } = await ledger();
    const seen = new Set(
      granted.map(({ user, verb, group, resource }) => `${user} ${verb} ${group}/${resource}`),
    );
    return [...grantedByDeploy()].flatMap(([user, held]) =>
      [...held]
        .filter((each) => !seen.has(`${user} ${each.replace(/^list /, 'watch ')}`))
        .filter((each) => !(RARE[user] ?? []).includes(each))
        .map((each) => `${user}: ${each}`),
    );
  };
  let left: string[] = [];
  await until(async () => {
    left = await unused();
    return left.length === 0;
  }, 'every rule to be used').catch(() => assert.deepEqual(left, [], 'granted, and never used'));
});

test('each component speaks for itself; the administrator’s certificate is for people', async () => {
  const users = new Set((await ledger()).granted.map(({ user }) => user));
  for (const user of [
    'system:node:n1',
    'system:node:n2',
    'system:kube-controller-manager',
    'system:kube-scheduler',
    'system:kube-proxy',
    'culvert:machine',
    'system:serviceaccount:istio-system:istiod',
    'system:serviceaccount:istio-system:istio-cni',
  ])
    assert.ok(users.has(user), user);
});

test('a pod of the shop may ask for nothing, and a provoked refusal is announced', async () => {
  const mesh = theMesh();
  mesh.expectDenied(/user="system:serviceaccount:shop:web"/);
  await assert.rejects(
    mesh.kubectl('get', 'secrets', '-A', '--as=system:serviceaccount:shop:web'),
    /secrets is forbidden: User "system:serviceaccount:shop:web" cannot list resource "secrets" in API group "" at the cluster scope/,
  );
  const { items } = await mesh.client.list(PODS, { namespace: 'shop' });
  assert.ok(items.length > 0);
  assert.ok((await ledger()).denied.every(({ user }) => user === 'system:serviceaccount:shop:web'));
});

test('a definition with CEL rules refuses what breaks them', async () => {
  const mesh = theMesh();
  await mesh.apply(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: sizes.example.io }
spec:
  group: example.io
  scope: Namespaced
  names: { plural: sizes, kind: Size }
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties: { min: { type: integer }, max: { type: integer } }
              x-kubernetes-validations:
                - { rule: self.min <= self.max, message: min may not exceed max }
`);
  const size = (min: number): string =>
    `apiVersion: example.io/v1\nkind: Size\nmetadata: {name: s, namespace: default}\nspec: {min: ${min}, max: 5}\n`;
  await mesh.apply(size(1));
  await assert.rejects(mesh.apply(size(6)), /spec: Invalid value: "object": min may not exceed max/);
  await mesh.kubectl('delete', 'crd', 'sizes.example.io');
});
