// One line per connection with ztunnel's fields in ztunnel's order (ztunnel.md §11.2), then our own three: `reason`, a
// stable code; `policy`, the policy that refused; `connection_id`, the same in the records of both ends of a tunnel.

import type { ErrorCode } from '#base/error-codes.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { Workload } from '#model/workload.ts';
import { formatSocketAddress, type SocketAddress } from '#net/host-port.ts';
import { bare, type LogFields, type Logger } from './log.ts';

export interface AccessEnd {
  readonly address: SocketAddress;
  readonly workload: Pick<Workload, 'name' | 'canonicalName' | 'namespace' | 'clusterId'> | undefined;
  /** Proven by mutual TLS. */
  readonly identity: SpiffeId | undefined;
}

export interface AccessRecord {
  readonly direction: 'outbound' | 'inbound';
  readonly source: AccessEnd;
  /** Outbound: the address dialled. Inbound: the pod's port 15008, or the original destination of plaintext. */
  readonly destination: AccessEnd;
  /** `:authority` of the tunnel. */
  readonly hboneAuthority: string | undefined;
  /** Host name of the service that was meant. */
  readonly service: string | undefined;
  /** Of tunnels: the trace id of the CONNECT. */
  readonly connectionId?: string | undefined;
}

export interface AccessFailure {
  /** The sentence of the `error` field. */
  readonly error: string;
  readonly reason?: ErrorCode;
  /** `namespace/name` */
  readonly policy?: string;
}

export interface AccessOutcome {
  readonly clientToServerBytes: number;
  readonly serverToClientBytes: number;
  readonly durationMs: number;
  readonly failure?: AccessFailure;
}

export interface EarlyRefusal extends AccessFailure {
  readonly direction: 'outbound' | 'inbound';
  readonly source: SocketAddress | undefined;
  readonly destination: SocketAddress | undefined;
}

export interface AccessLog {
  /** At debug: once everything about the connection is known, before policy and connecting. */
  opened(record: AccessRecord): void;
  /** Exactly once for every opened connection; an error when it failed. */
  complete(record: AccessRecord, outcome: AccessOutcome): void;
  /** A connection refused before anything was known about it. */
  failed(refusal: EarlyRefusal): void;
}

/** `log` in any scope; the lines stand under `access`. */
export function createAccessLog(log: Logger): AccessLog {
  const access = log.scoped('access');
  return {
    opened: (record) => {
      if (access.enabled('debug')) access.debug('connection opened', openFields(record));
    },
    complete: (record, outcome) => {
      const { failure } = outcome;
      const fields = endFields(record, outcome);
      if (failure === undefined) access.info('connection complete', fields);
      else access.error('connection complete', fields);
    },
    failed: (refusal) => {
      access.warn('connection failed', {
        'src.addr': address(refusal.source),
        'dst.addr': address(refusal.destination),
        direction: refusal.direction,
        ...failureFields(refusal),
      });
    },
  };
}

function recordFields({ source, destination, hboneAuthority, service, direction }: AccessRecord) {
  return {
    'src.addr': address(source.address),
    'src.workload': workloadName(source),
    'src.namespace': known(source.workload?.namespace),
    'src.identity': source.identity,
    'src.cluster': known(source.workload?.clusterId),
    'dst.addr': address(destination.address),
    'dst.hbone_addr': hboneAuthority === undefined ? undefined : bare(hboneAuthority),
    'dst.service': service,
    'dst.workload': workloadName(destination),
    'dst.namespace': known(destination.workload?.namespace),
    'dst.identity': destination.identity,
    'dst.cluster': known(destination.workload?.clusterId),
    direction,
    // Of the end; here, so that one object of one shape serves a line.
    bytes_sent: undefined as number | undefined,
    bytes_recv: undefined as number | undefined,
    duration: undefined as string | undefined,
    error: undefined as string | undefined,
    reason: undefined as string | undefined,
    policy: undefined as string | undefined,
    connection_id: undefined as string | undefined,
  };
}

function openFields(record: AccessRecord): LogFields {
  const fields = recordFields(record);
  fields.connection_id = record.connectionId;
  return fields;
}

/** The field's `sent` is what left the pod: requests outbound, answers inbound. */
function endFields(record: AccessRecord, outcome: AccessOutcome): LogFields {
  const { clientToServerBytes, serverToClientBytes, durationMs, failure } = outcome;
  const isOutbound = record.direction === 'outbound';
  const fields = recordFields(record);
  fields.bytes_sent = isOutbound ? clientToServerBytes : serverToClientBytes;
  fields.bytes_recv = isOutbound ? serverToClientBytes : clientToServerBytes;
  fields.duration = `${Math.floor(durationMs)}ms`;
  fields.error = failure?.error;
  fields.reason = failure?.reason;
  fields.policy = failure?.policy;
  fields.connection_id = record.connectionId;
  return fields;
}

function failureFields(failure: AccessFailure | undefined): LogFields {
  return { error: failure?.error, reason: failure?.reason, policy: failure?.policy };
}

function address(of: SocketAddress | undefined) {
  return of === undefined ? undefined : bare(formatSocketAddress(of));
}

function workloadName({ workload }: AccessEnd): string | undefined {
  return known(workload?.name) ?? known(workload?.canonicalName);
}

function known(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : text;
}
