import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cidrContains, formatCidr, parseCidr } from './cidr.ts';
import { formatHostPort, parseHostPort, parsePort } from './host-port.ts';
import { ip, ipFromBytes, ipToBytes, parseIp } from './ip.ts';

test('IPv6 is canonical as RFC 5952 wants it, and mapped IPv4 is IPv4', () => {
  const cases: [string, string | undefined][] = [
    ['10.0.0.1', '10.0.0.1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['::', '::'],
    ['::1', '::1'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['fe80::1%eth0', undefined],
    ['10.0.0', undefined],
    ['256.1.1.1', undefined],
    ['', undefined],
  ];
  for (const [text, expected] of cases) assert.equal(parseIp(text), expected, text);
});

test('bytes and text are two forms of one address', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ minLength: 4, maxLength: 4 }),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
      ),
      (bytes) => {
        const address = ipFromBytes(bytes);
        assert.equal(parseIp(address), address);
        assert.equal(ipFromBytes(ipToBytes(address)), address);
      },
    ),
  );
  assert.throws(() => ipFromBytes(new Uint8Array(5)), /4 or 16 bytes, not 5/);
});

test('ranges contain exactly what shares their prefix', () => {
  const cases: [string, string, boolean][] = [
    ['10.0.0.0/8', '10.255.0.1', true],
    ['10.0.0.0/8', '11.0.0.1', false],
    ['192.168.1.128/25', '192.168.1.127', false],
    ['192.168.1.128/25', '192.168.1.200', true],
    ['0.0.0.0/0', '203.0.113.9', true],
    ['0.0.0.0/0', '2001:db8::1', false],
    ['2001:db8::/33', '2001:db8:7fff::1', true],
    ['2001:db8::/33', '2001:db8:8000::1', false],
    ['10.0.0.5', '10.0.0.5', true],
  ];
  for (const [range, address, inside] of cases) {
    const cidr = parseCidr(range);
    assert.ok(cidr, range);
    assert.equal(cidrContains(cidr, ip(address)), inside, `${range} ${address}`);
  }
  assert.equal(formatCidr(parseCidr('10.1.2.3/8')!), '10.0.0.0/8');
  for (const bad of ['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/x', '/8', 'host/8'])
    assert.equal(parseCidr(bad), undefined, bad);
});

test('host and port, bracketed or not', () => {
  assert.deepEqual(parseHostPort('10.0.0.1:80'), { kind: 'ip', ip: '10.0.0.1', port: 80 });
  assert.deepEqual(parseHostPort('[2001:db8::1]:443'), { kind: 'ip', ip: '2001:db8::1', port: 443 });
  assert.deepEqual(parseHostPort('web.shop.svc.cluster.local:8080'), {
    kind: 'host',
    host: 'web.shop.svc.cluster.local',
    port: 8080,
  });
  for (const bad of [
    '',
    ':80',
    'host',
    'host:',
    'host:0',
    'host:65536',
    '2001:db8::1:80',
    '[::1]',
    'a b:80',
    'host:8o',
  ]) {
    assert.equal(parseHostPort(bad), undefined, bad);
  }
  assert.equal(formatHostPort('::1', 80), '[::1]:80');
  assert.equal(parsePort(0), undefined);
  assert.equal(parsePort(65_535), 65_535);
});
