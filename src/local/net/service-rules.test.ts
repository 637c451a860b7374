import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import { FIXED_TARGETS, renderServiceTable, type ServiceTarget, serviceTargets } from './service-rules.ts';

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
const own = (targets: readonly ServiceTarget[]): ServiceTarget[] =>
  targets.filter((t) => !FIXED_TARGETS.includes(t));

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
    'n1',
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
    'n1',
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
  assert.deepEqual(own(serviceTargets([local], slices, 'n2'))[0]?.endpoints, [
    { ip: '10.244.2.2', port: 8080 },
  ]);
});

test('the table of one service, as nft reads it', () => {
  const text = renderServiceTable(
    [
      {
        name: 'a/b:c',
        address: '10.96.1.1',
        protocol: 'tcp',
        port: 80,
        endpoints: [{ ip: '10.244.1.2', port: 8080 }],
      },
      { name: 'a/empty:c', address: '10.96.1.2', protocol: 'tcp', port: 80, endpoints: [] },
    ],
    '172.31.0.11',
  );
  // Chain names are digests; everything else is written out.
  const named = text.replace(/\b(ep|svc)-[0-9a-f]{12}\b/g, '$1-X');
  assert.equal(
    named,
    `table ip culvert-svc
delete table ip culvert-svc
table ip culvert-svc {
  chain ep-X {
    meta l4proto tcp dnat to 10.244.1.2:8080
  }
  chain svc-X {
    comment "a/b:c"
    numgen random mod 1 vmap { 0 : goto ep-X }
  }
  map services {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.1.1 . tcp . 80 : goto svc-X }
  }
  set hairpin {
    type ipv4_addr . ipv4_addr
    elements = { 10.244.1.2 . 10.244.1.2 }
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    ip daddr . meta l4proto . th dport vmap @services
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr . meta l4proto . th dport vmap @services
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ct status dnat ip saddr . ip daddr @hairpin snat to 172.31.0.11
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip daddr 10.96.0.0/16 meta l4proto tcp reject with tcp reset
    ip daddr 10.96.0.0/16 reject with icmp type port-unreachable
  }
  chain filter-output {
    type filter hook output priority 0; policy accept;
    ip daddr 10.96.0.0/16 meta l4proto tcp reject with tcp reset
    ip daddr 10.96.0.0/16 reject with icmp type port-unreachable
  }
}
`,
  );
});

test('whatever the services, nft accepts the table', {
  skip: process.getuid?.() !== 0 && 'needs root',
}, () => {
  const octet = fc.integer({ min: 2, max: 250 });
  const target: fc.Arbitrary<ServiceTarget> = fc.record({
    name: fc.constantFrom('a/b:c', 'shop/web:http', 'x/y:80'),
    address: octet.map((n) => `10.96.9.${n}`),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    port: fc.integer({ min: 1, max: 65_535 }),
    endpoints: fc.uniqueArray(
      fc.record({ ip: octet.map((n) => `10.244.1.${n}`), port: fc.constantFrom(80, 8080) }),
      { selector: ({ ip, port }) => `${ip}:${port}`, maxLength: 4 },
    ),
  });
  const targets = fc.uniqueArray(target, {
    selector: ({ address, protocol, port }) => `${address} ${protocol} ${port}`,
    maxLength: 5,
  });
  fc.assert(
    fc.property(targets, (list) => {
      const result = spawnSync('unshare', ['-n', 'nft', '-c', '-f', '-'], {
        input: renderServiceTable([...FIXED_TARGETS, ...list], '172.31.0.11'),
        encoding: 'utf8',
      });
      assert.equal(result.status, 0, result.stderr);
    }),
    { numRuns: 20 },
  );
});
