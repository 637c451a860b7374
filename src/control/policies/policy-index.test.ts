import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authorizationPolicy, peerAuthentication, pod } from '../ambient/fixtures.ts';
import { indexesForTest } from '../ambient/fixtures-index.ts';

const UID = 'Kubernetes//Pod/shop/web';

test('a workload lists the selecting policies of its namespace and of the root, sorted, then PeerAuthentication', () => {
  const { index, policyIndex, workload, policies } = indexesForTest();
  const selector = { matchLabels: { app: 'web' } };
  index.upsert('pod', pod({ name: 'web', ip: '10.0.0.1', labels: { app: 'web' } }));
  policyIndex.upsertAuthorization(authorizationPolicy('z', { selector }));
  policyIndex.upsertAuthorization(authorizationPolicy('a', { selector }, 'istio-system'));
  policyIndex.upsertAuthorization(authorizationPolicy('whole', {}));
  policyIndex.upsertAuthorization(authorizationPolicy('everybody', { selector: {} }));
  policyIndex.upsertAuthorization(authorizationPolicy('audit', { selector, action: 'AUDIT' }));
  policyIndex.upsertAuthorization(authorizationPolicy('elsewhere', { selector }, 'bank'));
  policyIndex.upsertPeerAuthentication(peerAuthentication('strict', { mtls: { mode: 'STRICT' } }));
  index.flush();
  assert.deepEqual(workload(UID).authorizationPolicies, [
    'istio-system/a',
    'shop/everybody',
    'shop/z',
    'istio-system/istio_converted_static_strict',
  ]);
  assert.deepEqual([...policies.list()].map(({ name }) => name).sort(), [
    'bank/elsewhere',
    'istio-system/a',
    'istio-system/istio_converted_static_strict',
    'shop/everybody',
    'shop/whole',
    'shop/z',
  ]);
});

test('the static policy is there exactly as long as any PeerAuthentication is', () => {
  const { policyIndex, policies } = indexesForTest();
  const permissive = peerAuthentication('p', { mtls: { mode: 'PERMISSIVE' } });
  policyIndex.upsertPeerAuthentication(permissive);
  assert.ok(policies.get('istio-system/istio_converted_static_strict'));
  policyIndex.removePeerAuthentication(permissive);
  assert.equal(policies.size, 0);
});

test('a policy that is labelled for another revision is withdrawn', () => {
  const { policyIndex, policies } = indexesForTest();
  const policy = authorizationPolicy('p', {});
  policyIndex.upsertAuthorization(policy);
  assert.equal(policies.size, 1);
  policyIndex.upsertAuthorization({
    ...policy,
    metadata: { ...policy.metadata, labels: { 'istio.io/rev': 'canary' } },
  });
  assert.equal(policies.size, 0);
});

test('a policy that becomes one for waypoints leaves the node proxies', () => {
  const { policyIndex, policies } = indexesForTest();
  policyIndex.upsertAuthorization(authorizationPolicy('p', {}));
  policyIndex.upsertAuthorization(authorizationPolicy('p', { targetRefs: [{ kind: 'Gateway', name: 'w' }] }));
  assert.equal(policies.size, 0);
  assert.deepEqual(
    [...policyIndex.conversions()].map(([key, { kind }]) => [key, kind]),
    [['shop/p', 'not-sent']],
  );
});
