import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ip } from '#net/ip.ts';
import { createHostProbes } from './host-probes.ts';
import { type PodRuleOptions, renderPodRemoval, renderPodRules } from './nft.ts';
import { nftHostRules, renderHostRules } from './nft-host.ts';

// Written by hand from cni.md A.7.1 (rules and their order) and A.8 (tables, hooks, priorities).

const PLAIN: PodRuleOptions = { ipv6: false, dnsCapture: false, bypassInbound: false, virtualInterfaces: [] };

/** What drops the first packet of a connection that the kernel takes for an older one (docs/DIFFERENCES.md). */
const STRAY =
  'tcp flags & (fin | syn | rst | ack) == syn ct state established ct status & dnat == 0 ct mark & 0x1000 == 0 meta mark & 0xfff != 0x539 counter drop';

test('IPv4 without DNS capture: the whole transaction', () => {
  assert.equal(
    renderPodRules(PLAIN),
    `add table inet istio-ambient-nat
flush table inet istio-ambient-nat
add chain inet istio-ambient-nat istio-prerouting
add chain inet istio-ambient-nat prerouting { type nat hook prerouting priority -100; policy accept; }
add rule inet istio-ambient-nat prerouting counter jump istio-prerouting
add rule inet istio-ambient-nat istio-prerouting ip saddr 169.254.7.127 meta l4proto tcp counter accept
add rule inet istio-ambient-nat istio-prerouting ip daddr != 127.0.0.1 tcp dport != 15008 meta mark & 0xfff != 0x539 counter redirect to :15006
add chain inet istio-ambient-nat istio-output
add chain inet istio-ambient-nat output { type nat hook output priority -100; policy accept; }
add rule inet istio-ambient-nat output counter jump istio-output
add rule inet istio-ambient-nat istio-output ip daddr 169.254.7.127 meta l4proto tcp counter accept
add rule inet istio-ambient-nat istio-output meta l4proto tcp meta mark & 0xfff == 0x111 counter accept
add rule inet istio-ambient-nat istio-output oifname "lo" ip daddr != 127.0.0.1 counter accept
add rule inet istio-ambient-nat istio-output ip daddr != 127.0.0.1 meta l4proto tcp meta mark & 0xfff != 0x539 counter redirect to :15001
add table inet istio-ambient-mangle
flush table inet istio-ambient-mangle
add chain inet istio-ambient-mangle istio-prerouting
add chain inet istio-ambient-mangle prerouting { type filter hook prerouting priority -150; policy accept; }
add rule inet istio-ambient-mangle prerouting counter jump istio-prerouting
add rule inet istio-ambient-mangle istio-prerouting meta mark & 0xfff == 0x539 counter ct mark set ct mark & 0xfffff000 | 0x111
add rule inet istio-ambient-mangle istio-prerouting ct mark & 0x1000 != 0 tcp flags & syn == 0 counter ct mark set ct mark & 0xffffefff
add rule inet istio-ambient-mangle istio-prerouting iifname != "lo" ip saddr != 169.254.7.127 tcp dport != 15008 ${STRAY}
add chain inet istio-ambient-mangle istio-output
add chain inet istio-ambient-mangle output { type route hook output priority -150; policy accept; }
add rule inet istio-ambient-mangle output counter jump istio-output
add rule inet istio-ambient-mangle istio-output ct mark & 0xfff == 0x111 counter meta mark set ct mark
add rule inet istio-ambient-mangle istio-output meta nfproto ipv4 ct state invalid oifname != "lo" meta mark & 0xfff != 0x539 tcp flags & rst == 0 counter drop
add rule inet istio-ambient-mangle istio-output ct mark & 0x1000 != 0 tcp flags & syn == 0 counter ct mark set ct mark & 0xffffefff
add rule inet istio-ambient-mangle istio-output oifname != "lo" ip daddr != 169.254.7.127 ${STRAY}
add table inet istio-ambient-raw
delete table inet istio-ambient-raw
`,
  );
});

/** The rules of one chain, without their prefix. */
function rulesOf(text: string, table: string, chain: string): string[] {
  const prefix = `add rule inet istio-ambient-${table} istio-${chain} `;
  return text
    .split('\n')
    .filter((line) => line.startsWith(prefix))
    .map((line) => line.slice(prefix.length));
}

test('both families, DNS capture and virtual interfaces: order of A.7.1, lines interleaved', () => {
  const text = renderPodRules({
    ...PLAIN,
    ipv6: true,
    dnsCapture: true,
    virtualInterfaces: ['tap0', 'tap1'],
  });
  assert.deepEqual(rulesOf(text, 'nat', 'prerouting'), [
    'iifname "tap0" meta l4proto tcp counter redirect to :15001',
    'iifname "tap0" meta l4proto tcp counter return',
    'iifname "tap1" meta l4proto tcp counter redirect to :15001',
    'iifname "tap1" meta l4proto tcp counter return',
    'ip saddr 169.254.7.127 meta l4proto tcp counter accept',
    'ip6 saddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff meta l4proto tcp counter accept',
    'ip daddr != 127.0.0.1 tcp dport != 15008 meta mark & 0xfff != 0x539 counter redirect to :15006',
    'ip6 daddr != ::1 tcp dport != 15008 meta mark & 0xfff != 0x539 counter redirect to :15006',
  ]);
  assert.deepEqual(rulesOf(text, 'nat', 'output'), [
    'ip daddr 169.254.7.127 meta l4proto tcp counter accept',
    'ip6 daddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff meta l4proto tcp counter accept',
    'oifname != "lo" udp dport 53 meta mark & 0xfff != 0x539 counter redirect to :15053',
    'ip daddr != 127.0.0.1 tcp dport 53 meta mark & 0xfff != 0x539 counter redirect to :15053',
    'ip6 daddr != ::1 tcp dport 53 meta mark & 0xfff != 0x539 counter redirect to :15053',
    'meta l4proto tcp meta mark & 0xfff == 0x111 counter accept',
    'oifname "lo" ip daddr != 127.0.0.1 counter accept',
    'oifname "lo" ip6 daddr != ::1 counter accept',
    'ip daddr != 127.0.0.1 meta l4proto tcp meta mark & 0xfff != 0x539 counter redirect to :15001',
    'ip6 daddr != ::1 meta l4proto tcp meta mark & 0xfff != 0x539 counter redirect to :15001',
  ]);
  assert.deepEqual(rulesOf(text, 'mangle', 'output'), [
    'ct mark & 0xfff == 0x111 counter meta mark set ct mark',
    // Not of the specification: docs/DIFFERENCES.md.
    'ct state invalid oifname != "lo" meta mark & 0xfff != 0x539 tcp flags & rst == 0 counter drop',
    'ct mark & 0x1000 != 0 tcp flags & syn == 0 counter ct mark set ct mark & 0xffffefff',
    `oifname != "lo" ip daddr != 169.254.7.127 ${STRAY}`,
    `oifname != "lo" ip6 daddr != fd16:9254:7127:1337:ffff:ffff:ffff:ffff ${STRAY}`,
  ]);
  assert.deepEqual(rulesOf(text, 'mangle', 'prerouting').slice(2), [
    `iifname != "lo" ip saddr != 169.254.7.127 tcp dport != 15008 ${STRAY}`,
    `iifname != "lo" ip6 saddr != fd16:9254:7127:1337:ffff:ffff:ffff:ffff tcp dport != 15008 ${STRAY}`,
  ]);
  assert.deepEqual(rulesOf(text, 'raw', 'prerouting'), [
    'udp sport 53 meta mark & 0xfff != 0x539 counter ct zone set 1',
  ]);
  assert.deepEqual(rulesOf(text, 'raw', 'output'), [
    'udp dport 53 meta mark & 0xfff == 0x539 counter ct zone set 1',
  ]);
  assert.match(text, /type filter hook prerouting priority -300; .*\n.*\n.*udp sport 53/);
});

test('DNS capture without IPv6 writes no IPv6 rule', () => {
  const text = renderPodRules({ ...PLAIN, dnsCapture: true });
  assert.ok(!text.includes('ip6'));
  assert.equal(
    rulesOf(text, 'nat', 'output')[1],
    'meta nfproto ipv4 oifname != "lo" udp dport 53 meta mark & 0xfff != 0x539 counter redirect to :15053',
  );
});

test('bypassing inbound keeps the reply path of tunnels', () => {
  const text = renderPodRules({ ...PLAIN, bypassInbound: true });
  assert.deepEqual(rulesOf(text, 'nat', 'prerouting'), []);
  assert.deepEqual(rulesOf(text, 'mangle', 'prerouting'), [
    'meta mark & 0xfff == 0x539 counter ct mark set ct mark & 0xfffff000 | 0x111',
    'ct mark & 0x1000 != 0 tcp flags & syn == 0 counter ct mark set ct mark & 0xffffefff',
  ]);
  assert.equal(rulesOf(text, 'nat', 'output').length, 4);
});

test('removal names all three tables and cannot fail', () => {
  assert.equal(
    renderPodRemoval(),
    ['nat', 'mangle', 'raw']
      .map((name) => `add table inet istio-ambient-${name}\ndelete table inet istio-ambient-${name}\n`)
      .join(''),
  );
});

test('the node: sets, elements and the SNAT rule in one transaction (A.8, A.9.1)', () => {
  assert.equal(
    renderHostRules({ ipv6: true, kubeletUid: 0 }, [
      { ip: ip('10.244.1.5'), uid: '1b7e-a' },
      { ip: ip('fd00::5'), uid: 'odd"; uid' },
    ]),
    `add table inet istio-ambient-nat
flush table inet istio-ambient-nat
add set inet istio-ambient-nat istio-inpod-probes-v4 { type ipv4_addr; }
flush set inet istio-ambient-nat istio-inpod-probes-v4
add set inet istio-ambient-nat istio-inpod-probes-v6 { type ipv6_addr; }
flush set inet istio-ambient-nat istio-inpod-probes-v6
add element inet istio-ambient-nat istio-inpod-probes-v4 { 10.244.1.5 comment "1b7e-a" }
add element inet istio-ambient-nat istio-inpod-probes-v6 { fd00::5 comment "odduid" }
add chain inet istio-ambient-nat istio-postrouting
add chain inet istio-ambient-nat postrouting { type nat hook postrouting priority 100; policy accept; }
add rule inet istio-ambient-nat postrouting counter jump istio-postrouting
add rule inet istio-ambient-nat istio-postrouting meta l4proto tcp meta skuid 0 ip daddr @istio-inpod-probes-v4 counter snat ip to 169.254.7.127
add rule inet istio-ambient-nat istio-postrouting meta l4proto tcp meta skuid 0 ip6 daddr @istio-inpod-probes-v6 counter snat ip6 to fd16:9254:7127:1337:ffff:ffff:ffff:ffff
`,
  );
});

test('probe addresses: the newest owner keeps an address; IPv6 is left out where it is off', async () => {
  const texts: string[] = [];
  const probes = createHostProbes(
    nftHostRules({ ipv6: false, kubeletUid: 0 }, async (text) => {
      texts.push(text);
    }),
  );
  const element = 'element inet istio-ambient-nat istio-inpod-probes-v4 { 10.0.0.1';
  await probes.set('a', [ip('10.0.0.1'), ip('fd00::1')]);
  await probes.set('b', [ip('10.0.0.1')]);
  await probes.remove('a');
  await probes.remove('b');
  await probes.remove('b');
  assert.deepEqual(texts, [
    `add ${element} comment "a" }\n`,
    `add ${element} }\ndelete ${element} }\nadd ${element} comment "b" }\n`,
    `add ${element} }\ndelete ${element} }\n`,
  ]);
});
