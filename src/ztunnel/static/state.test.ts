import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import type { ServiceKey } from '#model/workload.ts';
import { dumpPolicy, dumpService, dumpWorkload } from '../config-dump.ts';
import { parseStaticState } from './state.ts';

const WHOLE = `
workloads:
- &local
  uid: cluster1//v1/Pod/default/local
  name: local
  namespace: default
  serviceAccount: sa
  workloadIps: ["127.0.0.1", "::1"]
  protocol: HBONE
  networkMode: HostNetwork
  node: n1
  network: ""
  waypoint: { destination: net1/10.0.0.9, hboneMtlsPort: 15008 }
  networkGateway: { destination: istio-system/gw.example, hboneMtlsPort: 15009 }
  nativeTunnel: true
  applicationTunnel: { protocol: PROXY, port: null }
  authorizationPolicies: [default/p]
  status: Unhealthy
  locality: { region: r, zone: z, subzone: s }
  capacity: 3
  services:
    "default/example.com": { 80: 8080, "81": 0 }
- workloadIps: []
  namespace: default
  services: {}
services:
- name: example
  namespace: default
  hostname: example.com
  vips: [/127.10.0.1, net/fd00::1]
  cidrVips: [{ network: net, cidr: 10.1.0.0/16 }]
  ports: { 80: 8080 }
  subjectAltNames: [spiffe://cluster.local/ns/default/sa/sa]
  weightedWaypoints: [{ destination: { destination: default/w, hboneMtlsPort: 15008 }, weight: 7 }]
  loadBalancer: { routingPreferences: [Region, Zone], mode: Failover, healthPolicy: AllowAll }
  ipFamilies: Dual
  canonical: true
  visibility: Namespace
policies:
- name: p
  namespace: default
  scope: WorkloadSelector
  action: Deny
  dryRun: true
  rules:
  - - - notDestinationPorts: [9999]
        principals: [{ Exact: a }, !Prefix b, !Suffix "c", !Presence []]
        sourceIps: [10.0.0.0/8]
        serviceAccounts: [{ namespace: x, serviceAccount: y }]
`;

test('every key of the three kinds is read', () => {
  const { addresses, policies } = parseStaticState(WHOLE, 'f');
  const local = addresses.get('cluster1//v1/Pod/default/local');
  const empty = addresses.get('');
  const example = addresses.get('default/example.com');
  assert.ok(local?.kind === 'workload' && empty?.kind === 'workload' && example?.kind === 'service');
  assert.deepEqual(local.workload, {
    uid: 'cluster1//v1/Pod/default/local',
    name: 'local',
    namespace: 'default',
    ips: ['127.0.0.1', '::1'],
    network: '',
    protocol: 'HBONE',
    networkMode: 'HostNetwork',
    trustDomain: '',
    serviceAccount: 'sa',
    waypoint: {
      destination: { kind: 'address', address: { network: 'net1', ip: '10.0.0.9' } },
      hbonePort: 15_008,
    },
    networkGateway: {
      destination: { kind: 'hostname', namespace: 'istio-system', hostname: 'gw.example' },
      hbonePort: 15_009,
    },
    node: 'n1',
    hostname: '',
    workloadName: '',
    workloadType: '',
    canonicalName: '',
    canonicalRevision: '',
    clusterId: '',
    nativeTunnel: true,
    applicationTunnel: { protocol: 'PROXY', port: undefined },
    authorizationPolicies: ['default/p'],
    status: 'Unhealthy',
    locality: { region: 'r', zone: 'z', subzone: 's' },
    capacity: 3,
    services: new Map([
      [
        'default/example.com' as ServiceKey,
        new Map([
          [80, 8080],
          [81, 0],
        ]),
      ],
    ]),
  });
  assert.deepEqual(
    [empty.workload.protocol, empty.workload.status, empty.workload.capacity, empty.workload.trustDomain],
    ['TCP', 'Healthy', 1, ''],
  );
  assert.deepEqual(example.service, {
    name: 'example',
    namespace: 'default',
    hostname: 'example.com',
    vips: [
      { network: '', ip: '127.10.0.1' },
      { network: 'net', ip: 'fd00::1' },
    ],
    cidrVips: [{ network: 'net', cidr: { address: '10.1.0.0', prefixLength: 16 } }],
    ports: new Map([[80, 8080]]),
    subjectAltNames: ['spiffe://cluster.local/ns/default/sa/sa'],
    waypoint: undefined,
    weightedWaypoints: [
      {
        destination: {
          destination: { kind: 'hostname', namespace: 'default', hostname: 'w' },
          hbonePort: 15_008,
        },
        weight: 7,
      },
    ],
    loadBalancer: { routingPreferences: ['Region', 'Zone'], mode: 'Failover', healthPolicy: 'AllowAll' },
    ipFamilies: 'Dual',
    canonical: true,
    visibility: 'Namespace',
  });
  const [clause] = policies.get('default/p')!.rules[0]!.clauses;
  assert.deepEqual(clause![0]!.principals, [
    { kind: 'exact', text: 'a' },
    { kind: 'prefix', text: 'b' },
    { kind: 'suffix', text: 'c' },
    { kind: 'presence' },
  ]);
  assert.deepEqual(clause![0]!.sourceIps, [{ address: '10.0.0.0', prefixLength: 8 }]);
  assert.deepEqual(clause![0]!.notDestinationPorts, [9999]);
  assert.deepEqual(clause![0]!.serviceAccounts, [{ namespace: 'x', serviceAccount: 'y' }]);
});

test('what the config dump says of services and policies can be read back', () => {
  const first = parseStaticState(WHOLE, 'f');
  const services = [...first.addresses.values()].filter((one) => one.kind === 'service');
  const dumped = {
    services: services.map(({ service }) => dumpService(service, [])),
    policies: [...first.policies.values()].map(dumpPolicy),
  };
  const again = parseStaticState(JSON.stringify(dumped), 'dump');
  assert.deepEqual([...again.addresses.values()], services);
  assert.deepEqual(again.policies, first.policies);
  // A workload's services are names there and mappings here (ztunnel.md §1.6).
  const local = first.addresses.get('cluster1//v1/Pod/default/local');
  assert.ok(local?.kind === 'workload');
  const workload = {
    ...(dumpWorkload(local.workload) as object),
    services: { 'default/example.com': { 80: 8080, 81: 0 } },
  };
  const read = parseStaticState(JSON.stringify({ workloads: [workload] }), 'dump');
  assert.deepEqual(read.addresses.get(local.workload.uid), local);
});

test('an endpoint that its service names joins the workload', () => {
  const state = parseStaticState(
    `
workloads:
- { uid: a, namespace: x, workloadIps: [], services: {} }
services:
- name: s
  namespace: x
  hostname: s.x
  vips: []
  ports: {}
  endpoints: { a: { workloadUid: a, port: { 80: 81 }, status: Healthy } }
`,
    'f',
  );
  const a = state.addresses.get('a');
  assert.ok(a?.kind === 'workload');
  assert.deepEqual(a.workload.services, new Map([['x/s.x', new Map([[80, 81]])]]));
});

test('an alias stands for what its anchor marks, and an empty file for nothing', () => {
  const text = 'x: &ip [10.0.0.1]';
  assert.throws(() => parseStaticState(text, 'f'), /f, line 1: unknown key "x" in the file/);
  const state = parseStaticState(
    'workloads:\n- {uid: a, namespace: x, workloadIps: &ips [10.0.0.1], services: {}}\n- {uid: b, namespace: x, workloadIps: *ips, services: {}}',
    'f',
  );
  const b = state.addresses.get('b');
  assert.ok(b?.kind === 'workload');
  assert.deepEqual(b.workload.ips, ['10.0.0.1']);
  assert.equal(parseStaticState('# nothing\n', 'f').addresses.size, 0);
  assert.equal(parseStaticState('workloads:\npolicies: null\n', 'f').addresses.size, 0);
});

const W = '- {uid: a, namespace: x, workloadIps: [], services: {}';
const refused: readonly [string, string, RegExp][] = [
  [
    'unknown key at the top',
    'workload: []',
    /^f, line 1: unknown key "workload" in the file: expected one of workloads, services, policies$/,
  ],
  [
    'unknown key of a workload',
    'workloads:\n- uid: a\n  namspace: x',
    /^f, line 3: unknown key "namspace" in workload 1: expected one of workloadIps, namespace, /,
  ],
  [
    'unknown key below',
    `workloads:\n${W}, locality: {regoin: r}}`,
    /^f, line 2: unknown key "regoin" in "locality" of workload 1: expected one of region, zone, subzone$/,
  ],
  [
    'unknown condition',
    'policies:\n- name: p\n  namespace: x\n  scope: Global\n  action: Deny\n  dryRun: false\n  rules:\n  - - - ports: [1]',
    /^f, line 8: unknown key "ports" in "rules" of policy 1\[0\]\[0\]\[0\]: /,
  ],
  ['missing key', 'workloads:\n- uid: a', /^f, line 2: workload 1: expected the key "namespace"$/],
  [
    'wrong kind',
    `workloads:\n${W}, capacity: many}`,
    /^f, line 2: "capacity" of workload 1: expected a whole number from 0 to 4294967295$/,
  ],
  ['unquoted number', `workloads:\n${W}, name: 7}`, /"name" of workload 1: expected text \(in quotes/],
  ['wrong word', `workloads:\n${W}, protocol: hbone}`, /"protocol" of workload 1: expected TCP or HBONE$/],
  [
    'wrong address',
    'workloads:\n- {namespace: x, services: {}, workloadIps: [10.0.0.1,\n  10.0.0]}',
    /^f, line 3: "workloadIps" of workload 1\[1\]: expected an IP address$/,
  ],
  [
    'wrong reference',
    `workloads:\n${W}, waypoint: {destination: host, hboneMtlsPort: 1}}`,
    /"destination" of "waypoint" of workload 1: expected "NETWORK\/ADDRESS" or "NAMESPACE\/HOSTNAME"$/,
  ],
  [
    'a host name without namespace',
    `workloads:\n${W}, waypoint: {destination: /host, hboneMtlsPort: 1}}`,
    /expected a namespace before the host name$/,
  ],
  [
    'wrong service key',
    'workloads:\n- {uid: a, namespace: x, workloadIps: [], services: {example.com: {}}}',
    /"services" of workload 1: expected keys of the form "NAMESPACE\/HOSTNAME"$/,
  ],
  [
    'wrong port key',
    'workloads:\n- {uid: a, namespace: x, workloadIps: [], services: {a/b: {http: 1}}}',
    /expected port numbers as keys$/,
  ],
  [
    'the same twice',
    `workloads:\n${W}}\n${W}}`,
    /^f, line 3: workload 2: expected no second a; the first stands in line 2$/,
  ],
  [
    'two without uid',
    'workloads:\n- {namespace: x, workloadIps: [], services: {}}\n- {namespace: x, workloadIps: [], services: {}}',
    /^f, line 3: workload 2: expected no second a workload without uid; the first stands in line 2$/,
  ],
  [
    'an endpoint from elsewhere',
    'services:\n- {name: s, namespace: x, hostname: s.x, vips: [], ports: {}, endpoints: {a: {workloadUid: a, port: {}}}}',
    /expected the uid of a workload of this file, not "a"$/,
  ],
  [
    'two kinds of match',
    'policies:\n- {name: p, namespace: x, scope: Global, action: Deny, dryRun: false, rules: [[[{principals: [{Exact: a, Prefix: b}]}]]]}',
    /expected one of "!Exact TEXT"/,
  ],
  [
    'a tag of no match',
    'policies:\n- {name: p, namespace: x, scope: Global, action: Deny, dryRun: false, rules: [[[{principals: [!Exakt a]}]]]}',
    /^f, line 2: Unresolved tag: !Exakt/,
  ],
  ['a tag elsewhere', 'workloads: !mine []', /^f, line 1: Unresolved tag: !mine/],
  ['no YAML', 'workloads: [', /^f, line \d: /],
  ['a key twice', 'workloads: []\nworkloads: []', /^f, line 2: Map keys must be unique/],
];
for (const [what, text, message] of refused)
  test(`refused with its line: ${what}`, () =>
    assert.throws(
      () => parseStaticState(text, 'f'),
      (error: Error) => {
        assert.match(error.message, message);
        return true;
      },
    ));

test('whatever is done to a file, it is read or refused with a line', () => {
  const cut = fc.record({
    at: fc.nat(WHOLE.length),
    length: fc.nat(40),
    put: fc.oneof(
      fc.string({ maxLength: 12 }),
      fc.constantFrom('null', '[]', '{}', '&a', '*a', '- ', '\n', ': ', '1e9'),
    ),
  });
  fc.assert(
    fc.property(fc.array(cut, { minLength: 1, maxLength: 4 }), (cuts) => {
      let text = WHOLE;
      for (const { at, length, put } of cuts) text = text.slice(0, at) + put + text.slice(at + length);
      try {
        parseStaticState(text, 'f');
      } catch (error) {
        assert.ok(error instanceof MeshError, String(error));
        assert.equal(error.code, 'CONFIG_INVALID');
        assert.match(error.message, /^f, line \d+: /);
      }
    }),
    { numRuns: 1000 },
  );
});
