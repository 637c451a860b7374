// Ranges of whole numbers (addresses, ports) as sorted lists without overlap or touching: what nft takes as interval sets.

import { parseCidr } from '#net/cidr.ts';
import { familyOf, ipFromBytes, ipToBytes, parseIp } from '#net/ip.ts';

export interface Range<N extends number | bigint = number> {
  readonly first: N;
  /** Included. */
  readonly last: N;
}

/** Addresses of one family: IPv4 as numbers, IPv6 as bigints. */
export type AddressRange = Range<number | bigint>;

function neighbour<N extends number | bigint>(value: N, step: 1 | -1): N {
  return (typeof value === 'bigint' ? value + BigInt(step) : Number(value) + step) as N;
}

/** The same numbers in the normal form. */
export function union<N extends number | bigint>(ranges: readonly Range<N>[]): Range<N>[] {
  const sorted = [...ranges].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const merged: { first: N; last: N }[] = [];
  for (const { first, last } of sorted) {
    const before = merged.at(-1);
    if (before === undefined || first > neighbour(before.last, 1)) merged.push({ first, last });
    else if (last > before.last) before.last = last;
  }
  return merged;
}

/** The numbers of `whole` that are in none of the holes. */
export function without<N extends number | bigint>(whole: Range<N>, holes: readonly Range<N>[]): Range<N>[] {
  const left: Range<N>[] = [];
  let next = whole.first;
  for (const hole of union(holes)) {
    if (hole.last < next) continue;
    if (hole.first > whole.last) break;
    if (hole.first > next) left.push({ first: next, last: neighbour(hole.first, -1) });
    next = neighbour(hole.last, 1);
  }
  if (next <= whole.last) left.push({ first: next, last: whole.last });
  return left;
}

export const includes = (ranges: readonly AddressRange[], value: number | bigint): boolean =>
  ranges.some(({ first, last }) => first <= value && value <= last);

/** An address as one number; undefined for what is none. */
export function addressNumber(address: string): number | bigint | undefined {
  const parsed = parseIp(address);
  if (parsed === undefined) return undefined;
  const bytes = ipToBytes(parsed);
  return familyOf(parsed) === 4
    ? bytes.reduce((value, byte) => value * 256 + byte, 0)
    : BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}

/** As nft reads it. */
export function addressText(value: number | bigint): string {
  if (typeof value === 'number')
    return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
  const hex = value.toString(16).padStart(32, '0');
  const text = ipFromBytes(Buffer.from(hex, 'hex'));
  // The end of a range may be an IPv4-mapped address, which is written as IPv4 elsewhere and would be another family here.
  return text.includes(':') ? text : (hex.match(/.{4}/g) ?? []).join(':');
}

/** The addresses of a block such as `10.0.0.0/8`, whatever its host bits; undefined for what is no block. */
export function cidrRange(text: string): AddressRange | undefined {
  const cidr = text.includes('/') ? parseCidr(text) : undefined;
  const first = cidr === undefined ? undefined : addressNumber(cidr.address);
  if (cidr === undefined || first === undefined) return undefined;
  return typeof first === 'bigint'
    ? { first, last: first + 2n ** BigInt(128 - cidr.prefixLength) - 1n }
    : { first, last: first + 2 ** (32 - cidr.prefixLength) - 1 };
}
