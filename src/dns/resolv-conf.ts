// resolv.conf(5), as far as a forwarder needs it: which servers, how long, how often. Search domains are the asker's
// matter: queries arrive whole. Pure.

import type { Port, SocketAddress } from '#net/host-port.ts';
import { parseIp } from '#net/ip.ts';

export interface ResolverSettings {
  readonly servers: readonly SocketAddress[];
  /** Per try. */
  readonly timeoutMs: number;
  /** Rounds over all servers. */
  readonly attempts: number;
  /** Take turns instead of preferring the first. */
  readonly rotate: boolean;
}

// The defaults and ceilings of the C library, by which such files are written.
const TIMEOUT_S = 5;
const MOST_TIMEOUT_S = 30;
const ATTEMPTS = 2;
const MOST_ATTEMPTS = 5;
const MOST_SERVERS = 3;

/** Never fails: lines that cannot be understood are skipped, as every resolver does. */
export function parseResolvConf(text: string): ResolverSettings {
  const servers: SocketAddress[] = [];
  let timeoutMs = TIMEOUT_S * 1000;
  let attempts = ATTEMPTS;
  let rotate = false;
  for (const line of text.split('\n')) {
    const comment = line.search(/[#;]/);
    const [keyword, ...values] = (comment < 0 ? line : line.slice(0, comment)).trim().split(/\s+/);
    if (keyword === 'nameserver') {
      const ip = parseIp(values[0] ?? '');
      if (ip !== undefined && servers.length < MOST_SERVERS) servers.push({ ip, port: 53 as Port });
    } else if (keyword === 'options') {
      for (const option of values) {
        const [name, number] = option.split(':');
        if (name === 'rotate') rotate = true;
        if (number === undefined || !/^\d{1,4}$/.test(number)) continue;
        if (name === 'timeout') timeoutMs = within(Number(number), MOST_TIMEOUT_S) * 1000;
        if (name === 'attempts') attempts = within(Number(number), MOST_ATTEMPTS);
      }
    }
  }
  return { servers, timeoutMs, attempts, rotate };
}

function within(value: number, most: number): number {
  return Math.min(Math.max(value, 1), most);
}
