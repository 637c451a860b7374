// Bytes by hand from proxy-protocol.txt §2.2 (HAProxy), with the field's TLV for the identity (ztunnel.md §7.4).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { SpiffeId } from '#model/identity.ts';
import type { Port, SocketAddress } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { encodeProxyHeader } from './proxy-header.ts';

const SIGNATURE = '0d0a0d0a 000d0a51 5549540a';
const bytes = (hex: string): string => hex.replaceAll(/\s/g, '');
const at = (address: string, port: number): SocketAddress => ({ ip: ip(address), port: port as Port });
const WEB = 'spiffe://td/ns/a/sa/b' as SpiffeId;

test('IPv4: both addresses, both ports, nothing else without an identity', () => {
  assert.equal(
    encodeProxyHeader(at('10.1.2.3', 40_000), at('10.96.0.20', 80), undefined).toString('hex'),
    bytes(`${SIGNATURE} 21 11 000c 0a010203 0a600014 9c40 0050`),
  );
});

test('IPv6 with the identity as TLV 0xD0', () => {
  assert.equal(
    encodeProxyHeader(at('fd00::1', 1), at('fd00::2', 65_535), WEB).toString('hex'),
    bytes(`${SIGNATURE} 21 21 003c
      fd000000000000000000000000000001 fd000000000000000000000000000002 0001 ffff
      d0 0015 ${Buffer.from(WEB).toString('hex')}`),
  );
});

test('two families have no common form: unspecified, without addresses, the identity stays', () => {
  assert.equal(
    encodeProxyHeader(at('10.1.2.3', 1), at('fd00::2', 2), WEB).toString('hex'),
    bytes(`${SIGNATURE} 21 00 0018 d0 0015 ${Buffer.from(WEB).toString('hex')}`),
  );
});

test('the length field is always that of what follows', () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6()).map(ip);
  const socket = fc.record({ ip: address, port: fc.integer({ min: 1, max: 65_535 }) });
  fc.assert(
    fc.property(socket, socket, fc.option(fc.string({ maxLength: 300 })), (client, destination, name) => {
      const header = encodeProxyHeader(
        client as SocketAddress,
        destination as SocketAddress,
        (name ?? undefined) as SpiffeId | undefined,
      );
      assert.equal(header.readUInt16BE(14), header.length - 16);
    }),
  );
});
