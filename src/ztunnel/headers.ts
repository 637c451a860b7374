// The three headers of a CONNECT (ztunnel.md §5.1): baggage says who the workload is, forwarded who the client was,
// traceparent ties the two access-log lines together. Pure text; who is described is the caller's matter.

import { randomFillSync } from 'node:crypto';
import type { Workload } from '#model/workload.ts';
import { formatSocketAddress, type SocketAddress } from '#net/host-port.ts';

/** What a peer says about its workload. Absent and empty are the same. */
export interface Baggage {
  readonly clusterId?: string;
  readonly namespace?: string;
  readonly workloadName?: string;
  readonly workloadType?: string;
  readonly serviceName?: string;
  readonly serviceVersion?: string;
  readonly region?: string;
  readonly zone?: string;
}

const WORKLOAD_TYPES: readonly string[] = ['deployment', 'cronjob', 'pod', 'job'];

/** Comma-joined, no spaces, no encoding, empty values left out; the order is the peer's. */
export function formatBaggage(workload: Workload): string {
  const type = WORKLOAD_TYPES.includes(workload.workloadType) ? workload.workloadType : 'pod';
  const entries: readonly (readonly [string, string])[] = [
    ['k8s.cluster.name', workload.clusterId],
    ['k8s.namespace.name', workload.namespace],
    [`k8s.${type}.name`, workload.workloadName],
    ['service.name', workload.canonicalName],
    ['service.version', workload.canonicalRevision],
    ['cloud.region', workload.locality.region],
    ['cloud.availability_zone', workload.locality.zone],
  ];
  return entries
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}

/** As lenient as the peer: unknown keys are skipped, later entries win, a value with other than ASCII voids all. */
export function parseBaggage(header: string | undefined): Baggage {
  const found: { -readonly [Key in keyof Baggage]: Baggage[Key] } = {};
  if (header === undefined || !isAscii(header)) return found;
  for (const entry of header.split(',')) {
    const [key, value] = entry.split('=');
    if (key === undefined || value === undefined || value === '') continue;
    switch (key) {
      case 'k8s.cluster.name':
        found.clusterId = value;
        break;
      case 'k8s.namespace.name':
        found.namespace = value;
        break;
      case 'service.name':
        found.serviceName = value;
        break;
      case 'service.version':
        found.serviceVersion = value;
        break;
      case 'cloud.region':
        found.region = value;
        break;
      case 'cloud.availability_zone':
        found.zone = value;
        break;
      default: {
        const type = WORKLOAD_TYPES.find((known) => key === `k8s.${known}.name`);
        if (type === undefined) break;
        found.workloadType = type;
        found.workloadName = value;
      }
    }
  }
  return found;
}

/** `for="10.244.1.3:41822";host=web.shop.svc.cluster.local`; the host only for service-addressed traffic. */
export function formatForwarded(client: SocketAddress, serviceHostname: string | undefined): string {
  const client4 = `for="${formatSocketAddress(client)}"`;
  return serviceHostname === undefined ? client4 : `${client4};host=${serviceHostname}`;
}

/** The `host` of a forwarded header, without quotes. */
export function forwardedHost(header: string | undefined): string | undefined {
  if (header === undefined || !isAscii(header)) return undefined;
  const part = header.split(';').find((piece) => piece.startsWith('host='));
  const host = part?.slice('host='.length).replace(/^"|"$/g, '');
  return host === '' ? undefined : host;
}

const TRACE_BYTES = 24;
const TRACES_IN_STOCK = 32;

/** Traceparent headers (W3C trace context, version 00, not sampled), never taken over from the application. */
export class Traceparents {
  /** Random bytes are dear to fetch, a few or many. */
  readonly #stock = Buffer.alloc(TRACES_IN_STOCK * TRACE_BYTES);
  #at = this.#stock.length;

  next(): string {
    if (this.#at === this.#stock.length) {
      randomFillSync(this.#stock);
      this.#at = 0;
    }
    const digits = this.#stock.toString('hex', this.#at, this.#at + TRACE_BYTES);
    this.#at += TRACE_BYTES;
    return `00-${digits.slice(0, 32)}-${digits.slice(32)}-00`;
  }
}

/** The trace id, which both ends of a tunnel know; undefined when the header is none (W3C trace context §3.2). */
export function connectionIdOf(traceparent: string | undefined): string | undefined {
  const found = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:$|-)/.exec(traceparent ?? '');
  const traceId = found?.[1];
  return traceId === undefined || /^0+$/.test(traceId) ? undefined : traceId;
}

function isAscii(text: string): boolean {
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) > 0x7e) return false;
  return true;
}
