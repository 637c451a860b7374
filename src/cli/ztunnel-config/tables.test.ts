// Columns as istioctl prints them; the dump is written by hand after the specification of config_dump.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDump } from './dump.ts';
import {
  certificateTable,
  connectionTable,
  mergeDumps,
  policyTable,
  selectWorkloads,
  serviceTable,
  workloadTable,
} from './tables.ts';

const waypoint = { destination: 'shop/waypoint.shop.svc.cluster.local', hboneMtlsPort: 15008 };
const workloads = [
  {
    uid: 'w2',
    name: 'web-1',
    namespace: 'shop',
    workloadIps: ['10.244.1.3', 'fd00:10:244:1::3'],
    node: 'n1',
    protocol: 'HBONE',
    status: 'Healthy',
    waypoint,
  },
  {
    uid: 'w1',
    name: 'cart-1',
    namespace: 'shop',
    workloadIps: ['10.244.2.3'],
    node: 'n2',
    protocol: 'HBONE',
    status: 'Healthy',
  },
  { uid: 'w0', name: 'dns', namespace: 'kube-system', hostname: 'dns.example', node: 'n1', protocol: 'TCP' },
];
const services = [
  {
    name: 'cart',
    namespace: 'shop',
    hostname: 'cart.shop.svc.cluster.local',
    vips: ['/10.96.0.20', '/fd00:10:96::20'],
    ports: { 80: 8080 },
    endpoints: { w1: { workloadUid: 'w1' }, w0: { workloadUid: 'w0' }, w9: { workloadUid: 'w9' } },
  },
  { name: 'waypoint', namespace: 'shop', hostname: 'waypoint.shop.svc.cluster.local', vips: ['/10.96.0.21'] },
];
const leaf = {
  serialNumber: '255',
  validFrom: '2026-01-01T00:00:00Z',
  expirationTime: '2026-01-02T00:00:00Z',
};
const root = {
  serialNumber: '16',
  validFrom: '2020-01-01T00:00:00Z',
  expirationTime: '2021-01-01T00:00:00Z',
};
const certificates = [
  {
    identity: 'spiffe://cluster.local/ns/shop/sa/web',
    state: 'Available',
    certChain: [leaf, leaf],
    rootCerts: [root],
  },
  {
    identity: 'spiffe://cluster.local/ns/shop/sa/cart',
    state: 'Unavailable: refused',
    certChain: [],
    rootCerts: [],
  },
];
const workloadState = {
  u1: {
    state: 'Up',
    info: { name: 'web-1', namespace: 'shop' },
    connections: {
      inbound: [
        { src: '10.244.9.9:40000', originalDst: null, actualDst: '10.244.1.3:8080', protocol: 'TCP' },
      ],
      outbound: [
        {
          src: '10.244.1.3:35380',
          originalDst: '10.96.0.20:80',
          actualDst: '10.244.2.3:15008',
          protocol: 'HBONE',
        },
      ],
    },
  },
};
const policies = [
  { name: 'b', namespace: 'shop', action: 'Deny', scope: 'Namespace', rules: [[], []], dryRun: true },
  { name: 'a', namespace: 'shop', action: 'Allow', scope: 'WorkloadSelector', rules: [] },
];
const dump = parseDump(
  JSON.stringify({ workloads, services, certificates, workloadState, policies, version: { version: '1' } }),
  'test',
);
const lines = (...expected: string[]): string => expected.map((line) => `${line}\n`).join('');

test('workloads: sorted by namespace and name, every address, the waypoint by its service', () => {
  assert.equal(
    workloadTable(dump),
    lines(
      'NAMESPACE   POD NAME ADDRESS                     NODE WAYPOINT PROTOCOL',
      'kube-system dns      dns.example                 n1   None     TCP',
      'shop        cart-1   10.244.2.3                  n2   None     HBONE',
      'shop        web-1    10.244.1.3,fd00:10:244:1::3 n1   waypoint HBONE',
    ),
  );
  assert.deepEqual(
    selectWorkloads(dump, { namespace: 'SHOP', node: 'n2' }).map(({ uid }) => uid),
    ['w1'],
  );
  assert.deepEqual(
    selectWorkloads(dump, { address: '10.244.1.3' }).map(({ uid }) => uid),
    ['w2'],
  );
});

test('services: the addresses without their network, endpoints whose workload is healthy of all', () => {
  assert.equal(
    serviceTable(dump),
    lines(
      'NAMESPACE SERVICE NAME SERVICE VIP               WAYPOINT ENDPOINTS',
      'shop      cart         10.96.0.20,fd00:10:96::20 None     1/3',
      'shop      waypoint     10.96.0.21                None     0/0',
    ),
  );
});

test('policies', () => {
  assert.equal(
    policyTable(dump),
    lines(
      'NAMESPACE POLICY NAME ACTION SCOPE',
      'shop      a           Allow  WorkloadSelector',
      'shop      b           Deny   Namespace',
    ),
  );
  assert.match(policyTable(dump, undefined, true), /Deny +Namespace +2 +true/);
  assert.equal(policyTable(dump, 'other'), 'NAMESPACE POLICY NAME ACTION SCOPE\n');
});

test('certificates: leaf, intermediates and roots with their serial in hex and whether they hold now', () => {
  const table = certificateTable(dump.certificates, Date.parse('2026-01-01T12:00:00Z')).split('\n');
  assert.deepEqual(
    table.map((line) => line.split(/ {5,}/).map((cell) => cell.trim())),
    [
      ['CERTIFICATE NAME', 'TYPE', 'STATUS', 'VALID CERT', 'SERIAL NUMBER', 'NOT AFTER', 'NOT BEFORE'],
      [
        'spiffe://cluster.local/ns/shop/sa/web',
        'Leaf',
        'Available',
        'true',
        'ff',
        '2026-01-02T00:00:00Z',
        '2026-01-01T00:00:00Z',
      ],
      [
        'spiffe://cluster.local/ns/shop/sa/web',
        'Intermediate',
        'Available',
        'true',
        'ff',
        '2026-01-02T00:00:00Z',
        '2026-01-01T00:00:00Z',
      ],
      [
        'spiffe://cluster.local/ns/shop/sa/web',
        'Root',
        'Available',
        'false',
        '10',
        '2021-01-01T00:00:00Z',
        '2020-01-01T00:00:00Z',
      ],
      ['spiffe://cluster.local/ns/shop/sa/cart', 'NA', 'Unavailable', 'false', 'NA', 'NA', 'NA'],
      [''],
    ],
  );
});

test('connections: names where they are known, addresses when asked for', () => {
  assert.equal(
    connectionTable(dump),
    lines(
      'WORKLOAD   DIRECTION LOCAL            REMOTE            REMOTE TARGET                  PROTOCOL',
      'web-1.shop Inbound   web-1.shop:8080  10.244.9.9:40000                                 TCP',
      'web-1.shop Outbound  web-1.shop:35380 cart-1.shop:15008 cart.shop.svc.cluster.local:80 HBONE',
    ),
  );
  assert.match(
    connectionTable(dump, { raw: true, direction: 'outbound' }),
    /10\.244\.1\.3:35380 +10\.244\.2\.3:15008/,
  );
  assert.doesNotMatch(connectionTable(dump, { direction: 'outbound' }), /Inbound/);
  assert.equal(connectionTable(dump, { namespace: 'other' }).split('\n').length, 2);
});

test('older dumps keep things in maps; what is no dump is refused with its source', () => {
  const old = parseDump(JSON.stringify({ workloads: { '/10.244.1.3': workloads[0] }, services: {} }), 'test');
  assert.equal(old.workloads[0]?.name, 'web-1');
  assert.throws(() => parseDump('<html>', 'dump.json'), /dump\.json is no config dump/);
  assert.throws(() => parseDump('[]', 'dump.json'), /dump\.json is no config dump of a ztunnel/);
});

test('several proxies: connections of all, a certificate that two share once', () => {
  const merged = mergeDumps([dump, dump]);
  assert.equal(merged.certificates.length, 2);
  assert.equal(merged.workloadState.length, 2);
});
