// IP addresses as values: parse, format, compare. No sockets.
// An address is kept as its canonical text (RFC 5952 for IPv6; IPv4-mapped IPv6 becomes IPv4), so that `===` compares.

import { isIPv4, isIPv6 } from 'node:net';

export type IpAddress = string & { readonly __brand: 'IpAddress' };
export type IpFamily = 4 | 6;

const MAPPED = '::ffff:';

/** The canonical address, or undefined when the text is none. Zones (`%eth0`) are not addresses here. */
export function parseIp(text: string): IpAddress | undefined {
  if (isIPv4(text)) return text as IpAddress;
  // What a dual-stack listener says of nearly every peer.
  if (text.startsWith(MAPPED)) {
    const inner = text.slice(MAPPED.length);
    if (isIPv4(inner)) return inner as IpAddress;
  }
  if (!isIPv6(text) || text.includes('%')) return undefined;
  return ipFromBytes(bytesOfV6(text));
}

/** For text known to be an address (constants, kernel answers). @throws TypeError otherwise. */
export function ip(text: string): IpAddress {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new TypeError(`not an IP address: ${JSON.stringify(text)}`);
  return parsed;
}

export function familyOf(address: IpAddress): IpFamily {
  return address.includes(':') ? 6 : 4;
}

export function isLoopback(address: IpAddress): boolean {
  return address === '::1' || address.startsWith('127.');
}

/** Network byte order: 4 or 16 bytes. */
export function ipToBytes(address: IpAddress): Uint8Array {
  return familyOf(address) === 4 ? bytesOfV4(address) : bytesOfV6(address);
}

/** From 4 or 16 bytes in network order. @throws TypeError for any other length. */
export function ipFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as IpAddress;
  if (bytes.length !== 16) throw new TypeError(`an IP address has 4 or 16 bytes, not ${bytes.length}`);
  const mapped =
    bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  if (mapped) return bytes.subarray(12).join('.') as IpAddress;
  return formatV6(bytes) as IpAddress;
}

function bytesOfV4(text: string): Uint8Array {
  const bytes = new Uint8Array(4);
  let part = 0;
  for (let at = 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - 48;
    if (digit < 0) part += 1;
    else bytes[part] = bytes[part]! * 10 + digit;
  }
  return bytes;
}

function bytesOfV6(text: string): Uint8Array {
  let head = text;
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  if (dotted !== null) {
    const [a, b, c, d] = dotted.slice(2).map(Number) as [number, number, number, number];
    head = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [left = '', right] = head.split('::');
  const leftGroups = left === '' ? [] : left.split(':');
  const rightGroups = right === undefined || right === '' ? [] : right.split(':');
  const zeros = new Array<string>(8 - leftGroups.length - rightGroups.length).fill('0');
  const bytes = new Uint8Array(16);
  [...leftGroups, ...zeros, ...rightGroups].forEach((group, index) => {
    const value = Number.parseInt(group, 16);
    bytes[index * 2] = value >> 8;
    bytes[index * 2 + 1] = value & 0xff;
  });
  return bytes;
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups shortened (the first if equal). */
function formatV6(bytes: Uint8Array): string {
  const groups = Array.from(
    { length: 8 },
    (_, index) => ((bytes[index * 2]! << 8) | bytes[index * 2 + 1]!) >>> 0,
  );
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > bestLength) [bestStart, bestLength] = [start, length];
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestStart < 0) return hex.join(':');
  return `${hex.slice(0, bestStart).join(':')}::${hex.slice(bestStart + bestLength).join(':')}`;
}
