import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#k8s/objects.ts';
import { resolvConf } from './resolv-conf.ts';

const written = (spec: Partial<Pod['spec']>): string =>
  resolvConf(
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'a', namespace: 'shop' },
      spec: { containers: [], ...spec },
    },
    '10.96.0.10',
  );
const CLUSTER = `search shop.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5
`;

test('cluster names first; with the node network only where the pod says so', () => {
  assert.equal(written({}), CLUSTER);
  assert.equal(written({ dnsPolicy: 'ClusterFirstWithHostNet', hostNetwork: true }), CLUSTER);
  assert.equal(written({ hostNetwork: true }), '');
});

test('dnsConfig adds to it, and replaces an option of the same name', () => {
  assert.equal(
    written({
      dnsConfig: {
        nameservers: ['192.0.2.1', '10.96.0.10'],
        searches: ['example.com'],
        options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }],
      },
    }),
    `search shop.svc.cluster.local svc.cluster.local cluster.local example.com
nameserver 10.96.0.10
nameserver 192.0.2.1
options ndots:2 edns0
`,
  );
});

test('None leaves everything to dnsConfig, Default has nothing to say', () => {
  assert.equal(
    written({ dnsPolicy: 'None', dnsConfig: { nameservers: ['192.0.2.1'] } }),
    'nameserver 192.0.2.1\n',
  );
  assert.equal(written({ dnsPolicy: 'Default' }), '');
});
