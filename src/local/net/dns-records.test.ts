import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import { lookup, type ZoneSource } from './dns-records.ts';

const SERVICES: Readonly<Record<string, Service['spec']>> = {
  'shop/web': { clusterIP: '10.96.1.1', ports: [{ name: 'http', port: 80 }] },
  'shop/both': {
    clusterIP: '10.96.1.2',
    clusterIPs: ['10.96.1.2', 'fd00:10:96::102'],
    ports: [{ name: 'http', port: 80 }],
  },
  'shop/db': { clusterIP: 'None', ports: [{ name: 'sql', port: 5432 }] },
  'shop/out': { type: 'ExternalName', externalName: 'db.example.com' },
  'shop/in': { type: 'ExternalName', externalName: 'web.shop.svc.cluster.local' },
  'shop/loop': { type: 'ExternalName', externalName: 'loop.shop.svc.cluster.local' },
};
const SLICE: EndpointSlice = {
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'db-1', namespace: 'shop' },
  addressType: 'IPv4',
  ports: [{ name: 'sql', port: 15_432 }],
  endpoints: [
    { addresses: ['10.244.1.2'], hostname: 'db-0' },
    { addresses: ['10.244.2.3'] },
    { addresses: ['10.244.2.4'], conditions: { ready: false } },
  ],
};
const SLICE_V6: EndpointSlice = {
  ...SLICE,
  metadata: { name: 'db-2', namespace: 'shop' },
  addressType: 'IPv6',
  endpoints: [{ addresses: ['fd00:10:244:1::2'], hostname: 'db-0' }, { addresses: ['fd00:10:244:2::3'] }],
};
const serviceOf = (key: string): Service | undefined => {
  const [namespace = '', name = ''] = key.split('/');
  const spec = SERVICES[key];
  return spec && { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace }, spec };
};
const zone: ZoneSource = {
  service: (namespace, name) => serviceOf(`${namespace}/${name}`),
  allServices: () => Object.keys(SERVICES).flatMap((key) => serviceOf(key) ?? []),
  slices: (_namespace, name) => (name === 'db' ? [SLICE, SLICE_V6] : []),
  hasNamespace: (namespace) => namespace === 'shop',
};

// Digits of fd00:10:96::102 and fd00:10:244:1::2 from the last to the first, written out.
const V6_SERVICE = '2.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f';
const V6_POD = '2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.4.4.2.0.0.1.0.0.0.0.d.f';

// [name, type, answer data | 'empty' | 'none' | 'outside']
const CASES: readonly (readonly [string, string, readonly unknown[] | 'empty' | 'none' | 'outside'])[] = [
  ['web.shop.svc.cluster.local', 'A', ['10.96.1.1']],
  ['WEB.Shop.svc.cluster.local.', 'A', ['10.96.1.1']],
  ['web.shop.svc.cluster.local', 'AAAA', 'empty'],
  ['db.shop.svc.cluster.local', 'A', ['10.244.1.2', '10.244.2.3']],
  ['db-0.db.shop.svc.cluster.local', 'A', ['10.244.1.2']],
  ['10-244-2-3.db.shop.svc.cluster.local', 'A', ['10.244.2.3']],
  ['db-9.db.shop.svc.cluster.local', 'A', 'none'],
  ['out.shop.svc.cluster.local', 'A', ['db.example.com']],
  [
    '_http._tcp.web.shop.svc.cluster.local',
    'SRV',
    [{ port: 80, target: 'web.shop.svc.cluster.local', weight: 100, priority: 0 }],
  ],
  [
    '_sql._tcp.db.shop.svc.cluster.local',
    'SRV',
    [
      { port: 15_432, target: 'db-0.db.shop.svc.cluster.local', weight: 100, priority: 0 },
      { port: 15_432, target: '10-244-2-3.db.shop.svc.cluster.local', weight: 100, priority: 0 },
      { port: 15_432, target: 'fd00-10-244-2--3.db.shop.svc.cluster.local', weight: 100, priority: 0 },
    ],
  ],
  ['both.shop.svc.cluster.local', 'A', ['10.96.1.2']],
  ['both.shop.svc.cluster.local', 'AAAA', ['fd00:10:96::102']],
  ['both.shop.svc.cluster.local', 'ANY', ['10.96.1.2', 'fd00:10:96::102']],
  ['db.shop.svc.cluster.local', 'AAAA', ['fd00:10:244:1::2', 'fd00:10:244:2::3']],
  ['db-0.db.shop.svc.cluster.local', 'AAAA', ['fd00:10:244:1::2']],
  ['fd00-10-244-2--3.db.shop.svc.cluster.local', 'AAAA', ['fd00:10:244:2::3']],
  ['fd00-10-244-1--2.shop.pod.cluster.local', 'AAAA', ['fd00:10:244:1::2']],
  ['fd00-10-244-1--2.shop.pod.cluster.local', 'A', 'empty'],
  [`${V6_SERVICE}.ip6.arpa`, 'PTR', ['both.shop.svc.cluster.local']],
  [`${V6_POD}.ip6.arpa`, 'PTR', ['db-0.db.shop.svc.cluster.local']],
  [`${V6_SERVICE.slice(2)}.ip6.arpa`, 'PTR', 'none'],
  ['1.0.0.2.ip6.arpa', 'PTR', 'outside'],
  ['x.ip6.arpa', 'PTR', 'outside'],
  ['home.arpa', 'A', 'outside'],
  ['10.96.10.in-addr.arpa', 'PTR', 'none'],
  ['_http._udp.web.shop.svc.cluster.local', 'SRV', 'none'],
  ['nope.shop.svc.cluster.local', 'A', 'none'],
  ['x.web.shop.svc.cluster.local', 'A', 'none'],
  ['shop.svc.cluster.local', 'A', 'empty'],
  ['absent.svc.cluster.local', 'A', 'none'],
  ['svc.cluster.local', 'A', 'empty'],
  ['in.shop.svc.cluster.local', 'A', ['web.shop.svc.cluster.local', '10.96.1.1']],
  ['in.shop.svc.cluster.local', 'CNAME', ['web.shop.svc.cluster.local']],
  ['loop.shop.svc.cluster.local', 'A', ['loop.shop.svc.cluster.local']],
  ['cluster.local', 'A', 'empty'],
  ['pod.cluster.local', 'A', 'empty'],
  ['10-244-1-2.shop.pod.cluster.local', 'A', ['10.244.1.2']],
  ['10-244-1-2.absent.pod.cluster.local', 'A', 'none'],
  ['web.shop.pod.cluster.local', 'A', 'none'],
  ['1.1.96.10.in-addr.arpa', 'PTR', ['web.shop.svc.cluster.local']],
  ['2.1.244.10.in-addr.arpa', 'PTR', ['db-0.db.shop.svc.cluster.local']],
  ['3.2.244.10.in-addr.arpa', 'PTR', ['10-244-2-3.db.shop.svc.cluster.local']],
  ['1.1.96.10.in-addr.arpa', 'A', 'empty'],
  ['9.9.244.10.in-addr.arpa', 'PTR', 'none'],
  ['1.2.0.192.in-addr.arpa', 'PTR', 'outside'],
  ['example.com', 'A', 'outside'],
  ['xcluster.local', 'A', 'outside'],
];

for (const [name, type, expected] of CASES) {
  test(`${type} ${name}`, () => {
    const found = lookup(name, type, zone);
    if (expected === 'outside') assert.equal(found.kind, 'outside');
    else if (expected === 'none') assert.equal(found.kind, 'no-such-name');
    else {
      assert.equal(found.kind, 'found');
      if (found.kind !== 'found') return;
      assert.deepEqual(
        found.answers.map(({ data }) => data),
        expected === 'empty' ? [] : expected,
      );
      assert.ok(found.answers.length === 0 || found.answers[0]?.name === name, 'carries the name as asked');
    }
  });
}
