import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeClient } from '#k8s/client.ts';
import type { NetworkPolicy, NetworkPolicyPort, Pod } from '#k8s/objects.ts';
import { checkPolicies } from './closed-tunnel.ts';
import { readCluster } from './cluster-facts.ts';
import { renderFindings } from './finding.ts';

const POD: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web', namespace: 'shop', labels: { app: 'web' } },
  spec: { containers: [] },
};
const policy = (name: string, spec: NetworkPolicy['spec']): NetworkPolicy => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name, namespace: 'shop' },
  ...(spec === undefined ? {} : { spec }),
});
const opening = (...ports: NetworkPolicyPort[]): NetworkPolicy =>
  policy('web', { podSelector: { matchLabels: { app: 'web' } }, ingress: [{ ports }] });
const told = (...policies: NetworkPolicy[]): number => checkPolicies([POD], policies).length;

test('a policy that opens the application only closes the tunnel; those that open or close everything do not', () => {
  assert.equal(told(), 0);
  assert.equal(told(opening({ port: 8080 })), 1);
  assert.equal(told(opening({ port: 8080 }, { port: 15_008 })), 0);
  assert.equal(told(opening({ port: 15_000, endPort: 15_010 })), 0);
  assert.equal(told(opening({ port: 15_008, protocol: 'UDP' })), 1);
  assert.equal(told(opening({ port: 'http' })), 1);
  assert.equal(told(opening({})), 0);
  assert.equal(told(policy('open', { podSelector: {}, ingress: [{}] })), 0);
  assert.equal(told(policy('closed', { podSelector: {} })), 0, 'who closes everything means it');
  assert.equal(told(policy('out', { podSelector: {}, policyTypes: ['Egress'] })), 0);
  assert.equal(
    told(
      opening({ port: 8080 }),
      policy('tunnel', { podSelector: {}, ingress: [{ ports: [{ port: 15_008 }] }] }),
    ),
    0,
  );
  assert.equal(
    told(
      policy('other', { podSelector: { matchLabels: { app: 'x' } }, ingress: [{ ports: [{ port: 1 }] }] }),
    ),
    0,
  );
});

test('the cluster is asked for what it lets us see, and what it does not is no error', async () => {
  const pod = (namespace: string, mode?: string): Pod => ({
    ...POD,
    metadata: {
      name: 'p',
      namespace,
      ...(mode === undefined ? {} : { labels: { 'istio.io/dataplane-mode': mode } }),
    },
  });
  const lists: Readonly<Record<string, unknown>> = {
    pods: { items: [pod('shop'), pod('shop', 'none'), pod('plain'), pod('plain', 'ambient')] },
    namespaces: {
      items: [
        { metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } } },
        { metadata: { name: 'plain' } },
      ],
    },
  };
  const client = {
    get: async (resource: { plural: string }) => {
      if (resource.plural === 'daemonsets')
        return {
          spec: {
            template: {
              spec: {
                containers: [{ env: [{ name: 'ENABLE_POD_ENI', value: 'true' }] }],
                initContainers: [{ env: [{ name: 'DISABLE_TCP_EARLY_DEMUX', value: 'true' }] }],
              },
            },
          },
        };
      throw new Error('forbidden');
    },
    list: async (resource: { plural: string }) => {
      const found = lists[resource.plural];
      if (found === undefined) throw new Error('forbidden');
      return found;
    },
  } as unknown as Pick<KubeClient, 'get' | 'list'>;
  const { settings, meshPods, policies } = await readCluster(client);
  assert.deepEqual(settings, { awsNode: { ENABLE_POD_ENI: 'true', DISABLE_TCP_EARLY_DEMUX: 'true' } });
  assert.equal(meshPods?.length, 2);
  assert.equal(policies, undefined);
});

test('the worst comes first, with what to do, and a verdict at the end', () => {
  assert.equal(
    renderFindings([
      { id: 'a', level: 'ok', what: 'fine' },
      { id: 'b', level: 'trap', what: 'odd', fix: 'do that' },
      { id: 'c', level: 'broken', what: 'bad', fix: 'do this' },
      { id: 'd', level: 'unknown', what: 'not seen' },
    ]),
    `✗ bad
    do this
! odd
    do that
? not seen
✓ fine

1 of these must be mended before the mesh can work on this node.
`,
  );
  assert.match(
    renderFindings([{ id: 'b', level: 'trap', what: 'odd' }]),
    /works on this node; 1 thing will not/,
  );
  assert.match(
    renderFindings([{ id: 'a', level: 'ok', what: 'fine' }]),
    /\n\nThe mesh works on this node\.\n$/,
  );
});
