// Addresses of workloads that are known by host name only, looked up when a connection needs them (ztunnel.md §6.3).
// Answers are kept as long as their TTL allows; callers of one name share one question.

import type { Resolver } from 'node:dns/promises';
import type { Clock } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';

/** All addresses of a host name, at least one. Rejects with MeshError `NO_ROUTE`. */
export type ResolveHostname = (hostname: string) => Promise<readonly IpAddress[]>;

export interface DnsAnswer {
  readonly address: string;
  /** Seconds. */
  readonly ttl: number;
}

/** One question for one family; the error of a name without such addresses rejects. */
export type QueryDns = (hostname: string, family: 4 | 6) => Promise<readonly DnsAnswer[]>;

export interface ResolveOptions {
  readonly ipv6: boolean;
  readonly maxNames?: number;
}

/** A TTL of 0 would ask for every connection, one of a day would keep what is long gone. */
const MIN_TTL_MS = 1_000;
const MAX_TTL_MS = 300_000;

interface Known {
  readonly addresses: readonly IpAddress[];
  readonly untilMs: number;
}

export function createResolver(
  deps: { readonly query: QueryDns; readonly clock: Clock },
  { ipv6, maxNames = 4096 }: ResolveOptions,
): ResolveHostname {
  const { query, clock } = deps;
  /** Oldest first. */
  const known = new Map<string, Known>();
  const asking = new Map<string, Promise<readonly IpAddress[]>>();

  const ask = async (hostname: string): Promise<readonly IpAddress[]> => {
    const families = ipv6 ? ([4, 6] as const) : ([4] as const);
    const results = await Promise.allSettled(families.map((family) => query(hostname, family)));
    const answers = results.flatMap((result) => (result.status === 'fulfilled' ? result.value : []));
    const addresses = answers.map(({ address }) => parseIp(address)).filter((ip) => ip !== undefined);
    if (addresses.length === 0) {
      const failed = results.find((result) => result.status === 'rejected');
      const why = failed === undefined ? 'it has no addresses' : reasonOf(failed.reason);
      throw new MeshError('NO_ROUTE', `the host name ${hostname} could not be resolved: ${why}`, {
        details: { reason: 'unresolved-hostname', hostname },
      });
    }
    const ttlMs = Math.min(...answers.map(({ ttl }) => ttl)) * 1000;
    const keepMs = Math.min(MAX_TTL_MS, Math.max(MIN_TTL_MS, ttlMs));
    known.delete(hostname);
    known.set(hostname, { addresses, untilMs: clock.monotonicMs() + keepMs });
    if (known.size > maxNames) known.delete(known.keys().next().value!);
    return addresses;
  };

  return (hostname) => {
    const found = known.get(hostname);
    if (found !== undefined && clock.monotonicMs() < found.untilMs) return Promise.resolve(found.addresses);
    const pending = asking.get(hostname);
    if (pending !== undefined) return pending;
    const answer = ask(hostname).finally(() => asking.delete(hostname));
    asking.set(hostname, answer);
    return answer;
  };
}

/** Asks these servers, else those of the proxy's own /etc/resolv.conf; on this thread, so never in a pod's namespace. */
export function systemDns(servers?: readonly string[]): QueryDns {
  // Loaded with the first question: it costs most of a megabyte, and most nodes never ask one.
  let resolver: Promise<Resolver> | undefined;
  const load = async (): Promise<Resolver> => {
    const dns = await import('node:dns/promises');
    const made = new dns.Resolver({ timeout: 2_000, tries: 2 });
    if (servers !== undefined) made.setServers(servers);
    return made;
  };
  return async (hostname, family) => {
    resolver ??= load();
    const asked = await resolver;
    return family === 4 ? asked.resolve4(hostname, { ttl: true }) : asked.resolve6(hostname, { ttl: true });
  };
}
