import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { type IsolatedPod, policyTables } from './policy-table.ts';
import { type AddressRange, cidrRange, includes, type Range, union, without } from './ranges.ts';

test('the table of one pod, as nft reads it', () => {
  const text = policyTables(
    [
      {
        name: 'shop/web',
        ip: '10.244.1.2',
        ingress: [
          {
            peers: [
              { first: 0x0af40103, last: 0x0af40103 },
              { first: 0x0a000000, last: 0x0a0000ff },
            ],
            ports: [
              { protocol: 'tcp', first: 80, last: 80 },
              { protocol: 'tcp', first: 8000, last: 8010 },
              { protocol: 'udp', first: 53, last: 53 },
            ],
          },
          { peers: 'any', ports: [{ protocol: 'tcp', first: 1, last: 1 }] },
        ],
        egress: undefined,
      },
      { name: 'shop/open', ip: '10.244.1.3', ingress: undefined, egress: undefined },
    ],
    ['ip'],
  );
  assert.equal(
    text.replace(/\b(in|out)-[0-9a-f]{12}\b/g, '$1-X'),
    `table ip culvert-netpol
delete table ip culvert-netpol
table ip culvert-netpol {
  chain in-X {
    comment "shop/web"
    ip saddr 10.244.1.2 return
    ip saddr { 10.244.1.3, 10.0.0.0-10.0.0.255 } tcp dport { 80, 8000-8010 } return
    ip saddr { 10.244.1.3, 10.0.0.0-10.0.0.255 } udp dport { 53 } return
    tcp dport { 1 } return
    drop
  }
  map egress {
    type ipv4_addr : verdict
  }
  map ingress {
    type ipv4_addr : verdict
    elements = { 10.244.1.2 : jump in-X }
  }
  chain forward {
    type filter hook forward priority 10; policy accept;
    ct state established,related accept
    ip saddr vmap @egress
    ip daddr vmap @ingress
  }
}
`,
  );
});

test('a pod with two addresses is judged in the table of each', () => {
  const text = policyTables(
    [
      { name: 'a/b', ip: '10.244.1.2', ingress: [], egress: undefined },
      {
        name: 'a/b',
        ip: 'fd00:10:244:1::2',
        ingress: [
          {
            peers: [
              { first: 1n, last: 1n },
              // Ends where IPv4-mapped addresses begin, which must not be written as IPv4.
              { first: 0xfffe_0000_0000n, last: 0xffff_0000_0000n },
            ],
            ports: 'any',
          },
        ],
        egress: undefined,
      },
    ],
    ['ip', 'ip6'],
  );
  assert.match(text, /table ip culvert-netpol \{[^}]*ip saddr 10\.244\.1\.2 return\n {4}drop/);
  assert.ok(
    text.includes(`    ip6 saddr fd00:10:244:1::2 return
    ip6 saddr { ::1, ::fffe:0:0-0000:0000:0000:0000:0000:ffff:0000:0000 } return
    drop
`),
    text,
  );
  assert.match(text, /ip6 daddr vmap @ingress/);
});

test('without an isolated pod nothing is left', () => {
  assert.equal(policyTables([], ['ip']), 'table ip culvert-netpol\ndelete table ip culvert-netpol\n');
});

const range: fc.Arbitrary<Range> = fc
  .tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 60 }))
  .map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));

test('ranges: union and difference hold the same numbers as sets, in order and apart', () => {
  fc.assert(
    fc.property(fc.array(range, { maxLength: 6 }), range, (ranges, whole) => {
      const all = union(ranges);
      const rest = without(whole, ranges);
      for (let value = 0; value <= 60; value++) {
        const inAny = ranges.some(({ first, last }) => first <= value && value <= last);
        assert.equal(includes(all, value), inAny);
        assert.equal(includes(rest, value), includes([whole], value) && !inAny);
      }
      for (const list of [all, rest])
        for (let at = 1; at < list.length; at++)
          assert.ok((list[at]?.first ?? 0) > (list[at - 1]?.last ?? 0) + 1, 'apart');
    }),
  );
});

test('blocks in numbers', () => {
  assert.deepEqual(cidrRange('10.1.2.3/8'), { first: 0x0a000000, last: 0x0affffff });
  assert.deepEqual(cidrRange('0.0.0.0/0'), { first: 0, last: 0xffffffff });
  assert.deepEqual(cidrRange('255.255.255.255/32'), { first: 0xffffffff, last: 0xffffffff });
  assert.deepEqual(cidrRange('fd00:1::7/64'), {
    first: 0xfd00_0001_0000_0000_0000_0000_0000_0000n,
    last: 0xfd00_0001_0000_0000_ffff_ffff_ffff_ffffn,
  });
  assert.equal(cidrRange('::/0')?.last, 2n ** 128n - 1n);
  for (const none of ['10.0.0.1', 'fd00::1', '10.0.0.0/33', 'fd00::/129', 'web/8'])
    assert.equal(cidrRange(none), undefined);
});

test('whatever the pods, nft accepts the table', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  const ports = fc.oneof(
    fc.constant('any' as const),
    fc.array(
      fc.record({
        protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const),
        first: fc.constantFrom(0, 80, 8080),
        last: fc.constantFrom(8080, 9000, 65_535),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  );
  const allows = (...cidrs: string[]) => {
    const blocks = fc.constantFrom(...cidrs).map((cidr) => cidrRange(cidr) as AddressRange);
    const peers = fc.oneof(
      fc.constant('any' as const),
      fc.array(blocks, { minLength: 1, maxLength: 3 }).map((list) => union(list)),
    );
    return fc.option(fc.array(fc.record({ peers, ports }), { maxLength: 3 }), { nil: undefined });
  };
  const podOf = (prefix: string, way: ReturnType<typeof allows>): fc.Arbitrary<IsolatedPod> =>
    fc.record({
      name: fc.constantFrom('a/b', 'shop/web-1'),
      ip: fc.integer({ min: 2, max: 250 }).map((n) => `${prefix}${n}`),
      ingress: way,
      egress: way,
    });
  const pod = fc.oneof(
    podOf('10.244.1.', allows('10.0.0.0/8', '10.244.1.2/32', '192.0.2.0/24', '0.0.0.0/0')),
    podOf('fd00:10:244:1::', allows('fd00:10::/32', 'fd00:10:244:1::2/128', '::/1', '::/0')),
  );
  fc.assert(
    fc.property(fc.uniqueArray(pod, { selector: ({ ip }) => ip, maxLength: 4 }), (pods) => {
      const result = spawnSync('unshare', ['-n', 'nft', '-c', '-f', '-'], {
        input: policyTables(pods, ['ip', 'ip6']),
        encoding: 'utf8',
      });
      assert.equal(result.status, 0, result.stderr);
    }),
    { numRuns: 20 },
  );
});
