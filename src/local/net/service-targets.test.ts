import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import type { Family } from '#local/machine/plan.ts';
import { endpointsOf, fixedTargets, type ServiceTarget, serviceTargets } from './service-targets.ts';

const service = (name: string, spec: Service['spec']): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec,
});
const slice = (
  of: string,
  endpoints: EndpointSlice['endpoints'],
  ports: EndpointSlice['ports'] = [{ name: 'http', port: 8080, protocol: 'TCP' }],
): EndpointSlice => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: `${of}-x`, namespace: 'shop', labels: { 'kubernetes.io/service-name': of } },
  addressType: 'IPv4',
  endpoints,
  ports,
});
const n1 = { name: 'n1', address: '172.31.0.11' };
const n2 = { name: 'n2', address: '172.31.0.12' };
const own = (targets: readonly ServiceTarget[]): ServiceTarget[] =>
  targets.filter(({ name }) => !fixedTargets('IPv4').some((fixed) => fixed.name === name));

test('a port takes the ready endpoints of its own name, sorted', () => {
  const web = service('web', { clusterIP: '10.96.1.1', ports: [{ name: 'http', port: 80 }] });
  const targets = serviceTargets(
    [web],
    [
      slice('web', [
        { addresses: ['10.244.2.2'] },
        { addresses: ['10.244.1.9'], conditions: { ready: true } },
        { addresses: ['10.244.1.3'], conditions: { ready: false } },
      ]),
      slice('other', [{ addresses: ['10.244.1.4'] }]),
      slice('web', [{ addresses: ['10.244.1.5'] }], [{ name: 'admin', port: 9000 }]),
    ],
    n1,
  );
  assert.deepEqual(own(targets), [
    {
      name: 'shop/web:http',
      address: '10.96.1.1',
      protocol: 'tcp',
      port: 80,
      endpoints: [
        { ip: '10.244.1.9', port: 8080 },
        { ip: '10.244.2.2', port: 8080 },
      ],
    },
  ]);
});

test('headless and external services have no rule; the fixed addresses cannot be taken', () => {
  const targets = serviceTargets(
    [
      service('headless', { clusterIP: 'None', ports: [{ port: 80 }] }),
      service('outside', {
        type: 'ExternalName',
        externalName: 'example.com',
        clusterIP: '10.96.1.2',
        ports: [{ port: 1 }],
      }),
      service('thief', { clusterIP: '10.96.0.1', ports: [{ port: 443 }] }),
    ],
    [],
    n1,
  );
  assert.deepEqual(own(targets), []);
});

test('internalTrafficPolicy Local keeps to the node', () => {
  const local = service('web', {
    clusterIP: '10.96.1.1',
    internalTrafficPolicy: 'Local',
    ports: [{ name: 'http', port: 80 }],
  });
  const slices = [
    slice('web', [
      { addresses: ['10.244.1.2'], nodeName: 'n1' },
      { addresses: ['10.244.2.2'], nodeName: 'n2' },
    ]),
  ];
  assert.deepEqual(own(serviceTargets([local], slices, n2))[0]?.endpoints, [
    { ip: '10.244.2.2', port: 8080 },
  ]);
});

const EVERYWHERE = [
  slice('web', [
    { addresses: ['10.244.1.2'], nodeName: 'n1' },
    { addresses: ['10.244.2.2'], nodeName: 'n2' },
  ]),
];

test('a node port and external addresses reach any endpoint; the policy Local adds those of the node', () => {
  const web = (spec: Partial<Service['spec']>): Service =>
    service('web', {
      clusterIP: '10.96.1.1',
      ports: [{ name: 'http', port: 80, nodePort: 30_080 }],
      ...spec,
    });
  const endpoints = [
    { ip: '10.244.1.2', port: 8080 },
    { ip: '10.244.2.2', port: 8080 },
  ];
  const nodePort = own(serviceTargets([web({ type: 'NodePort' })], EVERYWHERE, n2))[0]?.external;
  assert.deepEqual(nodePort, { addresses: [{ ip: '172.31.0.12', port: 30_080 }], endpoints });
  const local = own(
    serviceTargets(
      [web({ type: 'LoadBalancer', externalTrafficPolicy: 'Local', externalIPs: ['198.51.100.7'] })],
      EVERYWHERE,
      n2,
    ),
  )[0]?.external;
  assert.deepEqual(local, {
    addresses: [
      { ip: '198.51.100.7', port: 80 },
      { ip: '172.31.0.12', port: 30_080 },
    ],
    endpoints,
    local: [{ ip: '10.244.2.2', port: 8080 }],
  });
  assert.equal(own(serviceTargets([web({})], EVERYWHERE, n2))[0]?.external, undefined, 'ClusterIP has none');
});

test('endpoints that end are used only when no other is left', () => {
  const ending = { ready: false, serving: true, terminating: true };
  const gone = { ready: false, serving: false, terminating: true };
  const slices = (last: object): EndpointSlice[] => [
    slice('web', [
      { addresses: ['10.244.1.2'], nodeName: 'n1', conditions: ending },
      { addresses: ['10.244.1.3'], nodeName: 'n1', conditions: gone },
      { addresses: ['10.244.2.2'], nodeName: 'n2', conditions: last },
    ]),
  ];
  const port = { name: 'http' };
  const ips = (found: readonly { ip: string }[]): string[] => found.map(({ ip }) => ip);
  assert.deepEqual(ips(endpointsOf(slices({ ready: true }), port, undefined)), ['10.244.2.2']);
  assert.deepEqual(ips(endpointsOf(slices(gone), port, undefined)), ['10.244.1.2']);
  // A node that keeps to itself does so with its last one, too.
  assert.deepEqual(ips(endpointsOf(slices({ ready: true }), port, 'n1')), ['10.244.1.2']);
});

test('a port takes its endpoints by name and protocol', () => {
  const dns = slice(
    'dns',
    [{ addresses: ['10.244.1.2'] }],
    [
      { name: 'dns', port: 53, protocol: 'UDP' },
      { name: 'dns-tcp', port: 5353, protocol: 'TCP' },
    ],
  );
  const ports = (name: string, protocol: string): number[] =>
    endpointsOf([dns], { name, protocol }, undefined).map(({ port }) => port);
  assert.deepEqual(ports('dns', 'UDP'), [53]);
  assert.deepEqual(ports('dns-tcp', 'TCP'), [5353]);
  assert.deepEqual(ports('dns', 'TCP'), []);
});

test('session affinity has the time-out of the service, three hours unless told otherwise', () => {
  const sticky = (config: object): number | undefined =>
    own(
      serviceTargets(
        [
          service('web', {
            clusterIP: '10.96.1.1',
            sessionAffinity: 'ClientIP',
            ports: [{ name: 'http', port: 80 }],
            ...config,
          }),
        ],
        [],
        n1,
      ),
    )[0]?.affinityS;
  assert.equal(sticky({ sessionAffinityConfig: { clientIP: { timeoutSeconds: 7 } } }), 7);
  assert.equal(sticky({}), 10_800);
});

test('a service with both families is two targets, each with the endpoints of its own slices', () => {
  const both = service('both', {
    type: 'NodePort',
    clusterIP: '10.96.1.3',
    clusterIPs: ['10.96.1.3', 'fd00:10:96::103'],
    ports: [{ name: 'http', port: 80, nodePort: 30_080 }],
  });
  const v4 = slice('both', [{ addresses: ['10.244.1.2'] }]);
  const v6 = { ...slice('both', [{ addresses: ['fd00:10:244:1::2'] }]), addressType: 'IPv6' as const };
  const of = (family: 'IPv4' | 'IPv6', address: string): ServiceTarget[] =>
    own(serviceTargets([both], [v4, v6], { name: 'n1', address }, family));
  assert.deepEqual(of('IPv6', 'fd00:172:31::11'), [
    {
      name: 'shop/both:http',
      address: 'fd00:10:96::103',
      protocol: 'tcp',
      port: 80,
      endpoints: [{ ip: 'fd00:10:244:1::2', port: 8080 }],
      external: {
        addresses: [{ ip: 'fd00:172:31::11', port: 30_080 }],
        endpoints: [{ ip: 'fd00:10:244:1::2', port: 8080 }],
      },
    },
  ]);
  assert.deepEqual(
    of('IPv4', '172.31.0.11').map(({ address, endpoints }) => [address, endpoints]),
    [['10.96.1.3', [{ ip: '10.244.1.2', port: 8080 }]]],
  );
});

test("the API server and the DNS stand in the table of the cluster's first family only", () => {
  const addresses = (family: Family, primary: Family): string[] =>
    serviceTargets([], [], { name: 'n1', address: '' }, family, primary).flatMap(
      ({ address, protocol, port, endpoints: [endpoint] }) =>
        `${protocol} ${address} ${port} ${endpoint?.ip}`,
    );
  assert.deepEqual(addresses('IPv6', 'IPv6'), [
    'tcp fd00:10:96::1 443 fd00:172:31::1',
    'tcp fd00:10:96::10 53 fd00:172:31::1',
    'udp fd00:10:96::10 53 fd00:172:31::1',
  ]);
  assert.deepEqual(addresses('IPv6', 'IPv4'), []);
});
