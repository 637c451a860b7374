// Ranges of whole numbers (addresses, ports) as sorted lists without overlap or touching: what nft takes as interval sets.

export interface Range {
  readonly first: number;
  /** Included. */
  readonly last: number;
}

/** The same numbers in the normal form. */
export function union(ranges: readonly Range[]): Range[] {
  const sorted = [...ranges].sort((a, b) => a.first - b.first);
  const merged: { first: number; last: number }[] = [];
  for (const { first, last } of sorted) {
    const before = merged.at(-1);
    if (before !== undefined && first <= before.last + 1) before.last = Math.max(before.last, last);
    else merged.push({ first, last });
  }
  return merged;
}

/** The numbers of `whole` that are in none of the holes. */
export function without(whole: Range, holes: readonly Range[]): Range[] {
  const left: Range[] = [];
  let next = whole.first;
  for (const hole of union(holes)) {
    if (hole.last < next) continue;
    if (hole.first > whole.last) break;
    if (hole.first > next) left.push({ first: next, last: hole.first - 1 });
    next = hole.last + 1;
  }
  if (next <= whole.last) left.push({ first: next, last: whole.last });
  return left;
}

export const includes = (ranges: readonly Range[], value: number): boolean =>
  ranges.some(({ first, last }) => first <= value && value <= last);

/** The 32 bits of an IPv4 address; undefined for anything else. */
export function ipv4Number(address: string): number | undefined {
  const parts = address.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^\d{1,3}$/.test(part) || Number(part) > 255) return undefined;
    value = value * 256 + Number(part);
  }
  return value;
}

export const ipv4Text = (value: number): string =>
  [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');

/** The addresses of a block such as `10.0.0.0/8`, whatever its host bits; undefined unless it is IPv4. */
export function cidrRange(cidr: string): Range | undefined {
  const [address = '', bits = ''] = cidr.split('/');
  const value = ipv4Number(address);
  if (value === undefined || !/^\d{1,2}$/.test(bits) || Number(bits) > 32) return undefined;
  const size = 2 ** (32 - Number(bits));
  const first = Math.floor(value / size) * size;
  return { first, last: first + size - 1 };
}
