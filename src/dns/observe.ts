// What is said about queries: one log line each at debug, and what the metrics count (ztunnel.md §11).

import type { Workload } from '#model/workload.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Protocol } from './forward.ts';
import type { Query } from './message.ts';

/** By which a query is counted. */
export interface QueryLabels {
  /** In lower case, from a closed list: the asker must not be able to invent series. */
  readonly type: string;
  readonly protocol: Protocol;
  /** Undefined: the pod's record has not come. */
  readonly client: Workload | undefined;
}

export interface DnsCounters {
  requested(labels: QueryLabels): void;
  forwarded(labels: QueryLabels): void;
  /** After `forwarded`, when the answer is there or will not come. */
  forwardEnded(labels: QueryLabels, durationMs: number, isFailed: boolean): void;
}

const TYPES: ReadonlyMap<number, string> = new Map([
  [1, 'A'],
  [2, 'NS'],
  [5, 'CNAME'],
  [6, 'SOA'],
  [10, 'NULL'],
  [12, 'PTR'],
  [13, 'HINFO'],
  [15, 'MX'],
  [16, 'TXT'],
  [28, 'AAAA'],
  [33, 'SRV'],
  [35, 'NAPTR'],
  [41, 'OPT'],
  [43, 'DS'],
  [44, 'SSHFP'],
  [46, 'RRSIG'],
  [47, 'NSEC'],
  [48, 'DNSKEY'],
  [52, 'TLSA'],
  [64, 'SVCB'],
  [65, 'HTTPS'],
  [251, 'IXFR'],
  [252, 'AXFR'],
  [255, 'ANY'],
  [257, 'CAA'],
]);

export function typeName(type: number): string {
  return TYPES.get(type) ?? 'unknown';
}

export function logQuery(
  log: Logger,
  query: Query,
  client: Workload | undefined,
  result: string,
  endpoints: number,
): void {
  if (!log.enabled('debug')) return;
  log.debug('', {
    'src.workload': client?.name ?? 'unknown',
    'src.namespace': client?.namespace ?? 'unknown',
    query: typeName(query.type),
    domain: `${query.name ?? '?'}.`,
    result,
    endpoints,
  });
}
