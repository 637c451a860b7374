import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SpiffeId } from '#model/identity.ts';
import type { PolicyMatch } from '#model/policy.ts';
import { workloadOf } from '#model/samples.ts';
import { parseCidr } from '#net/cidr.ts';
import { ip } from '#net/ip.ts';
import { parseConfig } from './config.ts';
import { dumpCertificates, dumpConfig, dumpPolicy, dumpWorkload, printDump } from './config-dump.ts';

const bare = workloadOf({
  ...{ name: 'cart-1', namespace: 'shop', ips: [ip('10.244.1.5')] },
  ...{ protocol: 'TCP', trustDomain: '', serviceAccount: '' },
  ...{ workloadName: '', workloadType: '', canonicalName: '', canonicalRevision: '' },
});

test('workload: what says nothing is left out', () => {
  assert.deepEqual(dumpWorkload(bare), {
    workloadIps: ['10.244.1.5'],
    protocol: 'TCP',
    networkMode: 'Standard',
    name: 'cart-1',
    namespace: 'shop',
    status: 'Healthy',
    clusterId: 'Kubernetes',
    capacity: 1,
    uid: 'Kubernetes//Pod/shop/cart-1',
  });
});

test('workload: references are written as text', () => {
  const dump = dumpWorkload({
    ...bare,
    waypoint: {
      destination: { kind: 'hostname', namespace: 'shop', hostname: 'waypoint.shop.svc.cluster.local' },
      hbonePort: 15008,
    },
    networkGateway: {
      destination: { kind: 'address', address: { network: 'far', ip: ip('1.2.3.4') } },
      hbonePort: 15008,
    },
  }) as Record<string, unknown>;
  assert.deepEqual(dump.waypoint, {
    destination: 'shop/waypoint.shop.svc.cluster.local',
    hboneMtlsPort: 15008,
  });
  assert.deepEqual(dump.networkGateway, { destination: 'far/1.2.3.4', hboneMtlsPort: 15008 });
});

test('policy: rule, clause and match are nested lists; string matches are single-key maps', () => {
  const match: PolicyMatch = {
    namespaces: [{ kind: 'prefix', text: 'sh' }],
    notNamespaces: [],
    serviceAccounts: [],
    notServiceAccounts: [],
    principals: [],
    notPrincipals: [{ kind: 'presence' }],
    sourceIps: [parseCidr('10.0.0.0/8')!],
    notSourceIps: [],
    destinationIps: [],
    notDestinationIps: [],
    destinationPorts: [80],
    notDestinationPorts: [],
  };
  assert.deepEqual(
    dumpPolicy({
      name: 'p',
      namespace: 'shop',
      scope: 'Namespace',
      action: 'Deny',
      dryRun: false,
      rules: [{ clauses: [[match]] }],
    }),
    {
      name: 'p',
      namespace: 'shop',
      scope: 'Namespace',
      action: 'Deny',
      dryRun: false,
      rules: [
        [
          [
            {
              namespaces: [{ Prefix: 'sh' }],
              notPrincipals: [{ Presence: [] }],
              sourceIps: ['10.0.0.0/8'],
              destinationPorts: [80],
            },
          ],
        ],
      ],
    },
  );
});

test('certificates: sorted by identity, with the reason of those that are missing', () => {
  assert.deepEqual(
    dumpCertificates(
      new Map([
        ['spiffe://b' as SpiffeId, { state: 'Initializing' }],
        ['spiffe://a' as SpiffeId, { state: 'Unavailable', error: 'no route' }],
      ]),
    ),
    [
      { identity: 'spiffe://a', state: 'Unavailable: no route', certChain: [], rootCerts: [] },
      { identity: 'spiffe://b', state: 'Initializing', certChain: [], rootCerts: [] },
    ],
  );
});

test('config: durations as seconds and nanoseconds, addresses as URLs, no tokens', () => {
  const dump = dumpConfig(
    parseConfig({
      NODE_NAME: 'n1',
      CONNECTION_TERMINATION_DEADLINE: '1500ms',
      AUTH_TOKEN: 'hush-hush',
      ZTUNNEL_WORKER_THREADS: '3',
    }),
  ) as Record<string, unknown>;
  assert.deepEqual(dump.selfTerminationDeadline, { secs: 1, nanos: 500_000_000 });
  assert.equal(dump.xdsAddress, 'https://localhost:15012');
  assert.deepEqual([dump.dnsProxy, dump.dnsProxyAddr], [true, { Localhost: [true, 15053] }]);
  assert.ok(!JSON.stringify(dump).includes('hush-hush'));
  assert.equal(dump.numWorkerThreads, 3);
});

test('addresses and sockets have the shapes that a running peer prints', () => {
  const dump = dumpConfig(parseConfig({ NODE_NAME: 'n1', IPV6_ENABLED: 'false' })) as Record<string, unknown>;
  assert.deepEqual(dump.adminAddr, { Localhost: [false, 15_000] });
  assert.deepEqual(dump.statsAddr, { SocketAddr: '0.0.0.0:15020' });
  assert.deepEqual(dump.readinessAddr, { SocketAddr: '0.0.0.0:15021' });
  assert.deepEqual(
    [dump.outboundAddr, dump.inboundPlaintextAddr, dump.inboundAddr],
    ['0.0.0.0:15001', '0.0.0.0:15006', '0.0.0.0:15008'],
  );
  assert.deepEqual(dump.socketConfig, {
    keepaliveEnabled: true,
    keepaliveTime: { secs: 180, nanos: 0 },
    keepaliveInterval: { secs: 180, nanos: 0 },
    keepaliveRetries: 9,
    userTimeoutEnabled: false,
  });
  assert.deepEqual(dump.altXdsHostname, null);
});

test('keys are sorted at every level', () => {
  assert.equal(
    printDump({ b: { d: 1, c: [{ f: null, e: true }] }, a: '' }),
    `{
  "a": "",
  "b": {
    "c": [
      {
        "e": true,
        "f": null
      }
    ],
    "d": 1
  }
}
`,
  );
});
