// What is said of a connection, from one set of facts: the access-log line (telemetry/access-log.ts) and the traffic
// metrics (ztunnel.md §11.1, §11.2). Every refused or ended connection leaves exactly one line.

import type { Clock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { Workload } from '#model/workload.ts';
import type { SocketAddress } from '#net/host-port.ts';
import {
  type AccessFailure,
  type AccessLog,
  type AccessRecord,
  createAccessLog,
} from '#telemetry/access-log.ts';
import type { ConnectionEnd, ConnectionLabelFacts, ResponseFlag } from '#telemetry/connection-labels.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Cell } from '#telemetry/metrics.ts';
import type { CopyCounters, CopyResult } from './copy.ts';
import { type Baggage, connectionIdOf } from './headers.ts';
import { type Parties, type Series, SeriesCache, type TrafficFamilies } from './series.ts';

export interface ConnectionFacts extends Parties {
  readonly src: SocketAddress;
  /** What is dialled outbound; pod:15008 for inbound tunnels; the original destination for inbound plaintext. */
  readonly dst: SocketAddress;
  /** The `:authority`, for tunnels. */
  readonly hboneAuthority: string | undefined;
  /** What the peer said of itself; counts only where `source` is unknown. */
  readonly sourceBaggage?: Baggage;
  /** What the far end of a tunnel between networks said of itself: `destination` is then unknown here. */
  readonly destinationBaggage?: Baggage;
  /** Of the CONNECT, for tunnels. */
  readonly traceparent?: string | undefined;
  /** Who serves it is heard from the far end (`learn`); nothing is counted before. */
  readonly isFarEndAwaited?: boolean;
}

export interface Refusal {
  readonly direction: 'inbound' | 'outbound';
  readonly src: SocketAddress;
  readonly dst: SocketAddress;
  readonly error: MeshError;
}

export interface ConnectionRecord extends CopyCounters {
  /** Who serves the connection, where that had to be awaited. */
  learn(destination: Baggage, identity: SpiffeId | undefined): void;
  /** The attempt so far failed and counts as that; the record goes on with another one. The line will be the last one's. */
  retry(facts: ConnectionFacts, failure: MeshError): void;
  /** Writes the line and counts the end. Exactly once. */
  close(result: CopyResult): void;
}

export interface Telemetry {
  opened(facts: ConnectionFacts): ConnectionRecord;
  /** Refused before there was anything to count. */
  refused(refusal: Refusal): void;
}

export function createTelemetry(deps: {
  readonly log: Logger;
  readonly clock: Clock;
  readonly traffic: TrafficFamilies;
}): Telemetry {
  const { clock } = deps;
  const series = new SeriesCache(deps.traffic);
  const access = createAccessLog(deps.log);
  return {
    refused: ({ direction, src, dst, error }) =>
      access.failed({ direction, source: src, destination: dst, ...failureOf(error) }),
    opened: (facts) => new OpenedConnection({ access, clock, series }, facts),
  };
}

interface RecordTools {
  readonly access: AccessLog;
  readonly clock: Clock;
  readonly series: SeriesCache;
}

class OpenedConnection implements ConnectionRecord {
  /** *received* are the request's bytes at both reporters: Istio's convention. */
  forward!: Cell;
  backward!: Cell;
  readonly #tools: RecordTools;
  readonly #startedMs: number;
  #facts: ConnectionFacts;
  #record!: AccessRecord;
  #series!: Series;
  #isCounted = false;
  #isClosed = false;

  constructor(tools: RecordTools, facts: ConnectionFacts) {
    this.#tools = tools;
    this.#startedMs = tools.clock.monotonicMs();
    this.#facts = facts;
    if (facts.isFarEndAwaited !== true) this.#count();
  }

  learn(destinationBaggage: Baggage, destinationIdentity: SpiffeId | undefined): void {
    if (this.#isCounted) return;
    this.#facts = { ...this.#facts, destination: undefined, destinationBaggage, destinationIdentity };
    this.#count();
  }

  retry(facts: ConnectionFacts, failure: MeshError): void {
    if (this.#isClosed) return;
    this.#countEnd(flagOf(failure));
    this.#facts = facts;
    this.#isCounted = false;
    if (facts.isFarEndAwaited !== true) this.#count();
  }

  close({ forwardBytes, backwardBytes, error }: CopyResult): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#countEnd(flagOf(error));
    const { access, clock } = this.#tools;
    access.complete(this.#record, {
      clientToServerBytes: forwardBytes,
      serverToClientBytes: backwardBytes,
      durationMs: clock.monotonicMs() - this.#startedMs,
      ...(error === undefined ? {} : { failure: failureOf(error) }),
    });
  }

  #count(): void {
    const { access } = this.#tools;
    this.#isCounted = true;
    this.#record = accessRecord(this.#facts);
    this.#series = seriesOf(this.#tools.series, this.#facts);
    this.#series.opened.value += 1;
    access.opened(this.#record);
    this.forward = this.#series.received;
    this.backward = this.#series.sent;
  }

  #countEnd(flag: ResponseFlag): void {
    if (!this.#isCounted) this.#count();
    this.#series.countEnd(flag);
  }
}

/** Parties that only baggage speaks of are others for every connection. */
function seriesOf(cache: SeriesCache, facts: ConnectionFacts): Series {
  const isByWord =
    facts.destinationBaggage !== undefined ||
    (facts.source === undefined && facts.sourceBaggage !== undefined);
  return isByWord ? cache.fresh(factsForLabels(facts)) : cache.of(facts, () => factsForLabels(facts));
}

type KnownEnd = ConnectionEnd & Pick<Workload, 'name'>;

/** The control plane's record wins over what the peer says of itself. */
function sourceOf({ source, sourceBaggage }: ConnectionFacts): KnownEnd | undefined {
  return source ?? (sourceBaggage && endOf(sourceBaggage, ''));
}

function destinationOf({ destination, destinationBaggage }: ConnectionFacts): KnownEnd | undefined {
  return destinationBaggage === undefined
    ? destination
    : endOf(destinationBaggage, destinationBaggage.workloadName ?? '');
}

function endOf(baggage: Baggage, name: string): KnownEnd {
  const { workloadName = '', serviceName = '', namespace = '', clusterId = '' } = baggage;
  const { serviceVersion = '', region = '', zone = '' } = baggage;
  return {
    name,
    workloadName,
    namespace,
    canonicalName: serviceName,
    canonicalRevision: serviceVersion,
    clusterId,
    locality: { region, zone, subzone: '' },
    app: workloadName,
  };
}

function accessRecord(facts: ConnectionFacts): AccessRecord {
  return {
    direction: facts.direction,
    source: { address: facts.src, workload: sourceOf(facts), identity: facts.sourceIdentity },
    destination: {
      address: facts.dst,
      workload: destinationOf(facts),
      identity: facts.isSecured ? facts.destinationIdentity : undefined,
    },
    hboneAuthority: facts.hboneAuthority,
    service: facts.service?.hostname,
    connectionId: connectionIdOf(facts.traceparent),
  };
}

function factsForLabels(facts: ConnectionFacts): ConnectionLabelFacts {
  return {
    reporter: facts.direction === 'outbound' ? 'source' : 'destination',
    source: sourceOf(facts),
    sourceIdentity: facts.sourceIdentity,
    destination: destinationOf(facts),
    destinationIdentity: facts.destinationIdentity,
    service: facts.service,
    mutualTls: facts.isSecured,
  };
}

function failureOf(error: MeshError | string): AccessFailure {
  if (typeof error === 'string') return { error };
  const { policy } = error.details;
  return {
    error: error.message,
    reason: error.code,
    ...(policy === undefined ? {} : { policy: String(policy) }),
  };
}

const FLAG_OF_CODE: Readonly<Partial<Record<MeshError['code'], ResponseFlag>>> = {
  POLICY_DENIED: 'DENY',
  POLICY_CHANGED: 'DENY',
  IDENTITY_UNAVAILABLE: 'IDENTITY_ERROR',
  CERTIFICATE_INVALID: 'TLS_FAILURE',
  CERTIFICATE_REVOKED: 'CERT_REVOKED',
  HBONE_PROTOCOL: 'H2_HANDSHAKE_FAILURE',
  HBONE_PEER_SILENT: 'H2_HANDSHAKE_FAILURE',
  HBONE_DRAINING: 'H2_HANDSHAKE_FAILURE',
};

/** `response_flags` of the metrics; handshake failures are CONNECT, as in the field. */
export function flagOf(error: MeshError | string | undefined): ResponseFlag {
  if (error === undefined) return '-';
  if (!(error instanceof MeshError)) return 'CONNECT';
  if (error.code === 'CONNECT_TIMEOUT' && error.details.tunnel === true) return 'NETWORK_POLICY';
  return FLAG_OF_CODE[error.code] ?? 'CONNECT';
}
