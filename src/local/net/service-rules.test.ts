import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { contentOf, EMPTY_CONTENT, serviceTable, serviceTransaction, tableName } from './service-rules.ts';
import { fixedTargets, type ServiceTarget } from './service-targets.ts';

const NODE = '172.31.0.11';
/** Names of chains and sets are digests; everything else is written out. */
const named = (text: string): string =>
  text.replace(/\b(ep|svc|all|ext|own|loc|aff)-[0-9a-f]{12}\b/g, '$1-X');

test('the table of one service, as nft reads it', () => {
  const { body } = serviceTable(
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
    NODE,
  );
  assert.equal(
    named(body),
    `table ip culvert-svc {
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
  set refused {
    type ipv4_addr . inet_proto . inet_service
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
    meta mark & 0x4000 != 0 meta mark set meta mark xor 0x4000 snat to 172.31.0.11
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip daddr 10.96.0.0/16 meta l4proto tcp reject with tcp reset
    ip daddr 10.96.0.0/16 reject with icmp type port-unreachable
    ip daddr . meta l4proto . th dport @refused meta l4proto tcp reject with tcp reset
    ip daddr . meta l4proto . th dport @refused reject with icmp type port-unreachable
  }
  chain filter-output {
    type filter hook output priority 0; policy accept;
    ip daddr 10.96.0.0/16 meta l4proto tcp reject with tcp reset
    ip daddr 10.96.0.0/16 reject with icmp type port-unreachable
    ip daddr . meta l4proto . th dport @refused meta l4proto tcp reject with tcp reset
    ip daddr . meta l4proto . th dport @refused reject with icmp type port-unreachable
  }
}
`,
  );
});

test('the table of the other family: its words, its ranges, its addresses in brackets', () => {
  const node = 'fd00:172:31::11';
  const { body } = serviceTable(
    [
      {
        name: 'a/b:c',
        address: 'fd00:10:96::101',
        protocol: 'tcp',
        port: 80,
        endpoints: [{ ip: 'fd00:10:244:1::2', port: 8080 }],
        affinityS: 60,
        external: {
          addresses: [{ ip: node, port: 30_080 }],
          endpoints: [{ ip: 'fd00:10:244:1::2', port: 8080 }],
          local: [],
        },
      },
    ],
    node,
    'IPv6',
  );
  for (const line of [
    'table ip6 culvert-svc {',
    'type ipv6_addr\n    flags dynamic,timeout',
    'update @aff-X { ip6 saddr }',
    'meta l4proto tcp dnat to [fd00:10:244:1::2]:8080',
    'ip6 saddr @aff-X goto ep-X',
    'ip6 saddr != fd00:10:244::/48 ip6 saddr != fd00:172:31::11 goto own-X',
    'elements = { fd00:10:96::101 . tcp . 80 : goto svc-X, fd00:172:31::11 . tcp . 30080 : goto ext-X }',
    'ct status dnat ip6 saddr . ip6 daddr @hairpin snat to fd00:172:31::11',
    'ip6 daddr fd00:10:96::/112 meta l4proto tcp reject with tcp reset',
    'ip6 daddr fd00:10:96::/112 reject with icmpv6 type port-unreachable',
  ])
    assert.ok(named(body).includes(line), `${line}\nis missing in\n${named(body)}`);
  assert.doesNotMatch(body, /\bip saddr|ipv4_addr|icmp type/);
});

test('an external address without endpoints is refused, a node port needs no rule for that', () => {
  const external = {
    addresses: [
      { ip: NODE, port: 30_080 },
      { ip: '198.51.100.7', port: 80 },
    ],
    endpoints: [],
  };
  const { body } = serviceTable(
    [{ name: 'a/b', address: '10.96.1.1', protocol: 'tcp', port: 80, endpoints: [], external }],
    NODE,
  );
  assert.match(body, /set refused \{\n.*\n {4}elements = \{ 198\.51\.100\.7 \. tcp \. 80 \}/);
});

const octet = fc.integer({ min: 2, max: 250 });
const endpoints = fc.uniqueArray(
  fc.record({ ip: octet.map((n) => `10.244.1.${n}`), port: fc.constantFrom(80, 8080) }),
  { selector: ({ ip, port }) => `${ip}:${port}`, maxLength: 4 },
);
const target: fc.Arbitrary<ServiceTarget> = fc
  .record({
    name: fc.constantFrom('a/b:c', 'shop/web:http', 'x/y:80'),
    address: octet.map((n) => `10.96.9.${n}`),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    port: fc.integer({ min: 1, max: 65_535 }),
    endpoints,
    affinityS: fc.option(fc.constantFrom(1, 60, 10_800), { nil: undefined }),
    externalEndpoints: fc.option(endpoints, { nil: undefined }),
    local: fc.option(endpoints, { nil: undefined }),
  })
  .map(({ affinityS, externalEndpoints, local, ...rest }) => ({
    ...rest,
    ...(affinityS === undefined ? {} : { affinityS }),
    ...(externalEndpoints === undefined
      ? {}
      : {
          external: {
            addresses: [
              // Unlike as the API server gives them out: one for each address and port.
              { ip: NODE, port: Number(rest.address.split('.')[3]) * 256 + (rest.port & 255) },
              { ip: rest.address.replace('10.96.9', '198.51.100'), port: rest.port },
            ],
            endpoints: externalEndpoints,
            ...(local === undefined ? {} : { local: local.slice(0, externalEndpoints.length) }),
          },
        }),
  }));
const targets = fc.uniqueArray(target, {
  selector: ({ address }) => address,
  maxLength: 5,
});

/** Every IPv4 address of the generated services as one of IPv6. */
const inV6 = <T>(value: T): T =>
  JSON.parse(JSON.stringify(value).replace(/"(\d+)\.(\d+)\.(\d+)\.(\d+)"/g, '"fd00:$1:$2:$3::$4"')) as T;

test('whatever the services, nft brings the table from one state to the next and holds what we believe', {
  skip: process.getuid?.() !== 0 && 'needs root',
}, () => {
  fc.assert(
    fc.property(fc.array(targets, { minLength: 2, maxLength: 4 }), fc.boolean(), (states, isV6) => {
      let held = EMPTY_CONTENT;
      const steps = states.map((list) => {
        const all = [...fixedTargets('IPv4'), ...list];
        const table = isV6 ? serviceTable(inV6(all), inV6(NODE), 'IPv6') : serviceTable(all, NODE);
        const text = serviceTransaction(table, held);
        held = table.content;
        return text;
      });
      const script = steps.map((text) => `nft -f - <<'END'\n${text}\nEND\n`).join('');
      const list = `nft --terse --json list table ${tableName(isV6 ? 'IPv6' : 'IPv4')}`;
      const result = spawnSync('unshare', ['-n', 'sh', '-c', `set -e\n${script}${list}`], {
        encoding: 'utf8',
      });
      assert.equal(result.status, 0, result.stderr);
      const kernel = contentOf(result.stdout);
      assert.deepEqual([...kernel.chains].sort(), [...held.chains].sort());
      assert.deepEqual([...kernel.sets].sort(), [...held.sets].sort());
    }),
    { numRuns: 15 },
  );
});
