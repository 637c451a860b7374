// Address ranges in CIDR notation.

import { familyOf, type IpAddress, ipFromBytes, ipToBytes, parseIp } from './ip.ts';

export interface Cidr {
  /** The network address: host bits are zero. */
  readonly address: IpAddress;
  readonly prefixLength: number;
}

/** Accepts `10.0.0.0/8` and a bare address (full width). Undefined when the text is neither. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/');
  const address = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  const width = familyOf(address) === 4 ? 32 : 128;
  if (slash < 0) return { address, prefixLength: width };
  const lengthText = text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(lengthText)) return undefined;
  return cidrOf(address, Number(lengthText));
}

/** Undefined when the prefix is longer than the address. */
export function cidrOf(address: IpAddress, prefixLength: number): Cidr | undefined {
  const bytes = ipToBytes(address);
  if (prefixLength < 0 || prefixLength > bytes.length * 8) return undefined;
  const masked = bytes.map((byte, index) => {
    const keep = Math.max(0, Math.min(8, prefixLength - index * 8));
    return byte & (0xff << (8 - keep));
  });
  return { address: ipFromBytes(masked), prefixLength };
}

export function cidrContains(range: Cidr, address: IpAddress): boolean {
  if (familyOf(range.address) !== familyOf(address)) return false;
  const network = ipToBytes(range.address);
  const candidate = ipToBytes(address);
  const wholeBytes = range.prefixLength >> 3;
  for (let index = 0; index < wholeBytes; index++) if (network[index] !== candidate[index]) return false;
  const restBits = range.prefixLength & 7;
  if (restBits === 0) return true;
  const mask = (0xff << (8 - restBits)) & 0xff;
  return (network[wholeBytes]! & mask) === (candidate[wholeBytes]! & mask);
}

export function formatCidr(range: Cidr): string {
  return `${range.address}/${range.prefixLength}`;
}
