import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#k8s/objects.ts';
import { podName } from './mesh-pods.ts';
import { isBehind, parseClients, proxyStatusTable, statusOf } from './proxy-status.ts';
import { loggingPath } from './ztunnel-config/log-levels.ts';

test('the ways to name a proxy', () => {
  const cases: readonly [string, string | undefined, string][] = [
    ['ztunnel-abc', 'ztunnel-abc', 'istio-system'],
    ['ztunnel-abc.mesh', 'ztunnel-abc', 'mesh'],
    ['pod/ztunnel-abc', 'ztunnel-abc', 'istio-system'],
    ['daemonset/ztunnel', undefined, 'istio-system'],
    ['ds/ztunnel.mesh', undefined, 'mesh'],
  ];
  for (const [text, name, namespace] of cases)
    assert.deepEqual(podName(text, 'istio-system'), { name, namespace }, text);
  assert.throws(() => podName('daemonset/istio-cni-node', 'x'), /no ztunnel/);
  assert.throws(() => podName('deployment/istiod', 'x'), /expected/);
});

test('log levels: what is no level is refused, what istioctl calls otherwise is translated', () => {
  assert.equal(loggingPath({}), '/logging');
  assert.equal(loggingPath({ reset: true }), '/logging?reset');
  assert.equal(loggingPath({ level: 'warning' }), '/logging?level=warn');
  assert.equal(
    loggingPath({ level: 'access:debug,info' }),
    `/logging?level=${encodeURIComponent('access=debug,info')}`,
  );
  assert.throws(() => loggingPath({ level: 'loud' }), /"loud" is no level/);
  assert.throws(() => loggingPath({ level: 'access' }), /"access" is no level/);
  assert.throws(() => loggingPath({ level: 'info', reset: true }), /exclude/);
});

const pod: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'ztunnel-a', namespace: 'istio-system', uid: 'u1' },
  spec: {
    nodeName: 'n1',
    containers: [{ name: 'istio-proxy', image: 'i', env: [{ name: 'CLUSTER_ID', value: 'east' }] }],
  },
};
const subscription = {
  typeUrl: 'type.googleapis.com/istio.workload.Address',
  pending: 0,
  sentNonce: '3',
  ackedNonce: '3',
};
const caller = { namespace: 'istio-system', pod: { name: 'ztunnel-a', uid: 'u1' } };

test('a proxy beside what the control plane says of it', () => {
  const status = statusOf(pod, '0.1.0', new Map([['istiod-x', [{ caller, subscriptions: [subscription] }]]]));
  assert.deepEqual(
    [status.name, status.cluster, status.node, status.istiod, status.version],
    ['ztunnel-a.istio-system', 'east', 'n1', 'istiod-x', '0.1.0'],
  );
  assert.deepEqual(status.types, [{ type: 'WDS', state: 'SYNCED' }]);
  assert.equal(isBehind(status), false);
  assert.match(
    proxyStatusTable([status], false),
    /^NAME +CLUSTER +ISTIOD +VERSION +SUBSCRIBED TYPES\n.*1 \(WDS\)\n$/,
  );
});

test('workloads alone have the short name of workloads and services', () => {
  const workloads = { ...subscription, typeUrl: 'type.googleapis.com/istio.workload.Workload' };
  const status = statusOf(pod, '1', new Map([['istiod-x', [{ caller, subscriptions: [workloads] }]]]));
  assert.deepEqual(status.types, [{ type: 'WDS', state: 'SYNCED' }]);
});

test("an istiod's list of its proxies: by name, with the nonces of each type", () => {
  const resources = {
    'type.googleapis.com/istio.workload.Address': {
      sent: 'a1',
      acked: 'a1',
      sentTime: '2026-01-01T00:00:00Z',
    },
    'type.googleapis.com/istio.security.Authorization': {
      sent: 'b2',
      acked: 'b1',
      lastError: 'no such field',
    },
  };
  const text = JSON.stringify([{ cluster_id: 'east', proxy: 'ztunnel-a.istio-system', resources }]);
  const status = statusOf(pod, '1.31', new Map([['istiod-x', parseClients(text, 'istiod-x')]]));
  assert.equal(status.istiod, 'istiod-x');
  assert.deepEqual(status.types, [
    { type: 'WDS', state: 'SYNCED' },
    { type: 'WADS', state: 'REJECTED', message: 'no such field' },
  ]);
  assert.throws(() => parseClients('<html>', 'istiod-x'), /istiod-x gave no list of its proxies/);
});

test('a proxy that nobody serves, one that waits, one that rejected what it got', () => {
  const alone = statusOf(pod, '1', new Map([['istiod-x', []]]));
  assert.equal(isBehind(alone), true);
  assert.match(proxyStatusTable([alone], false), /NOT CONNECTED/);
  const late = { ...subscription, sentNonce: '4' };
  const stale = statusOf(pod, '1', new Map([['istiod-x', [{ caller, subscriptions: [late] }]]]));
  assert.deepEqual(stale.types, [{ type: 'WDS', state: 'STALE' }]);
  assert.equal(isBehind(stale), false);
  const refusal = { ...subscription, rejected: { message: 'unknown field' } };
  const rejected = statusOf(pod, '1', new Map([['istiod-x', [{ caller, subscriptions: [refusal] }]]]));
  assert.equal(isBehind(rejected), true);
  assert.match(proxyStatusTable([rejected], true), /WDS REJECTED.*unknown field/);
});
