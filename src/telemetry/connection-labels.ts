// The traffic labels of a connection's metrics, in ztunnel's order and derivation (ztunnel.md §11.1).

import type { SpiffeId } from '#model/identity.ts';
import type { Service } from '#model/service.ts';
import type { Workload } from '#model/workload.ts';
import type { Labels } from './metrics.ts';

/** One end of a connection: a known workload, or what its baggage says. */
export interface ConnectionEnd
  extends Pick<
    Workload,
    'workloadName' | 'namespace' | 'canonicalName' | 'canonicalRevision' | 'clusterId' | 'locality'
  > {
  /** Differs from the canonical name when taken from baggage. */
  readonly app?: string;
}

/** `-`: no failure. */
export type ResponseFlag =
  | '-'
  | 'DENY'
  | 'CONNECT'
  | 'TLS_FAILURE'
  | 'H2_HANDSHAKE_FAILURE'
  | 'NETWORK_POLICY'
  | 'IDENTITY_ERROR'
  | 'CERT_REVOKED';

export interface ConnectionLabelFacts {
  readonly reporter: 'source' | 'destination';
  readonly source: ConnectionEnd | undefined;
  /** From mutual TLS only. */
  readonly sourceIdentity: SpiffeId | undefined;
  readonly destination: ConnectionEnd | undefined;
  /** The destination workload's own, also in plaintext. */
  readonly destinationIdentity: SpiffeId | undefined;
  readonly service: Pick<Service, 'hostname' | 'namespace' | 'name'> | undefined;
  readonly mutualTls: boolean;
}

export function connectionLabels(facts: ConnectionLabelFacts, flag: ResponseFlag = '-'): Labels {
  const { source, destination, service } = facts;
  const labels: Record<string, string> = {
    reporter: facts.reporter,
    ...sourceLabels(source, facts.sourceIdentity),
    destination_service: known(service?.hostname),
    destination_service_namespace: known(service?.namespace),
    destination_service_name: known(service?.name),
    destination_workload: known(destination?.workloadName),
    destination_canonical_service: known(destination?.canonicalName),
    destination_canonical_revision: known(destination?.canonicalRevision),
    destination_workload_namespace: known(destination?.namespace),
    destination_principal: known(facts.destinationIdentity),
    destination_app: known(destination?.app ?? destination?.canonicalName),
    destination_version: known(destination?.canonicalRevision),
    destination_cluster: known(destination?.clusterId),
    request_protocol: 'tcp',
    response_flags: flag,
    connection_security_policy: facts.mutualTls ? 'mutual_tls' : 'unknown',
  };
  const from = source?.locality;
  const to = destination?.locality;
  if (from?.region || from?.zone || to?.region || to?.zone) {
    labels.source_region = known(from?.region);
    labels.source_zone = known(from?.zone);
    labels.destination_region = known(to?.region);
    labels.destination_zone = known(to?.zone);
  }
  return labels;
}

/** Also of what is counted for a source alone. */
export function sourceLabels(source: ConnectionEnd | undefined, identity: SpiffeId | undefined): Labels {
  return {
    source_workload: known(source?.workloadName),
    source_canonical_service: known(source?.canonicalName),
    source_canonical_revision: known(source?.canonicalRevision),
    source_workload_namespace: known(source?.namespace),
    source_principal: known(identity),
    source_app: known(source?.app ?? source?.canonicalName),
    source_version: known(source?.canonicalRevision),
    source_cluster: known(source?.clusterId),
  };
}

function known(value: string | undefined): string {
  return value === undefined || value === '' ? 'unknown' : value;
}
