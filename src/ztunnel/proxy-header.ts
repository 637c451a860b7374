// The header of the PROXY protocol, version 2, that applications with a PROXY tunnel get in front of the bytes
// (ztunnel.md §7.4; HAProxy's proxy-protocol.txt §2.2): who the client is, whom it asked for, and its proven identity.

import type { SpiffeId } from '#model/identity.ts';
import type { SocketAddress } from '#net/host-port.ts';
import { familyOf, ipToBytes } from '#net/ip.ts';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
/** Version 2, command PROXY. */
const VERSION_AND_COMMAND = 0x21;
const UNSPECIFIED = 0x00;
const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;
/** Of the range for applications; the field's choice for the peer's SPIFFE id. */
const IDENTITY_TLV = 0xd0;

export function encodeProxyHeader(
  client: SocketAddress,
  destination: SocketAddress,
  identity: SpiffeId | undefined,
): Buffer {
  const family = familyOf(client.ip);
  // The format has no form for two families in one header.
  const isMixed = family !== familyOf(destination.ip);
  const addresses = isMixed ? [] : [...ipToBytes(client.ip), ...ipToBytes(destination.ip)];
  const ports = isMixed ? [] : [...uint16(client.port), ...uint16(destination.port)];
  const name = identity === undefined ? undefined : Buffer.from(identity);
  const tlv = name === undefined ? [] : [IDENTITY_TLV, ...uint16(name.length), ...name];
  const rest = [...addresses, ...ports, ...tlv];
  const transport = isMixed ? UNSPECIFIED : family === 4 ? TCP_OVER_IPV4 : TCP_OVER_IPV6;
  return Buffer.from([...SIGNATURE, VERSION_AND_COMMAND, transport, ...uint16(rest.length), ...rest]);
}

function uint16(value: number): [number, number] {
  return [value >>> 8, value & 0xff];
}
