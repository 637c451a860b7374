// What a Service or one host of a ServiceEntry says before it is known who owns the host name: the service, which
// workloads are its members, and who said so (control-plane.md §2.13).

import type { Service } from '#model/service.ts';
import { type ServiceKey, serviceKey } from '#model/workload.ts';
import type { Labels } from './labels.ts';
import type { ServiceBinding } from './waypoint-binding.ts';

export interface ServiceSource {
  readonly kind: 'Service' | 'ServiceEntry';
  readonly namespace: string;
  readonly name: string;
}

export interface RecordPort {
  readonly port: number;
  /** 0 where it differs from workload to workload. */
  readonly target: number;
  readonly name: string;
  /** Of a Kubernetes Service: the name of the container port. */
  readonly targetName?: string;
}

export interface ServiceRecord {
  readonly source: ServiceSource;
  readonly created: string;
  /** `canonical` is decided among all that claim the host name. */
  readonly service: Omit<Service, 'canonical'>;
  /** Members are the workloads of the namespace that carry these labels; empty selects none. */
  readonly selector: Labels;
  readonly ports: readonly RecordPort[];
  readonly binding: ServiceBinding;
}

export function recordKey({ service }: ServiceRecord): ServiceKey {
  return serviceKey(service.namespace, service.hostname);
}

/** An empty selector selects nobody: its service has whom its slices or its endpoints name. */
export const selectsNobody = (selector: Labels | undefined): boolean =>
  selector === undefined || Object.keys(selector).length === 0;

/** All that workloads take from a record: while it is the same, they need not be looked at again. */
export function membershipText({ source, service, selector, ports, binding }: ServiceRecord): string {
  const { namespace, name } = binding.waypoint ?? {};
  return JSON.stringify([source, service.hostname, Object.entries(selector).sort(), ports, namespace, name]);
}

/**
 * The records of one host name that are published: one for each namespace, and which of them is canonical, that is
 * meant by callers whose own namespace has none.
 */
export function ownersOf(claims: Iterable<ServiceRecord>): Map<ServiceKey, ServiceRecord & Canonical> {
  const best = new Map<string, ServiceRecord>();
  for (const claim of claims) {
    const held = best.get(claim.service.namespace);
    if (held === undefined || isBetter(claim, held)) best.set(claim.service.namespace, claim);
  }
  let canonical: ServiceRecord | undefined;
  for (const claim of best.values()) {
    if (claim.service.visibility === 'Namespace') continue;
    if (canonical === undefined || isBetter(claim, canonical)) canonical = claim;
  }
  const owners = new Map<ServiceKey, ServiceRecord & Canonical>();
  for (const claim of best.values())
    owners.set(recordKey(claim), { ...claim, canonical: claim === canonical });
  return owners;
}

export interface Canonical {
  readonly canonical: boolean;
}

/** A Kubernetes Service before any ServiceEntry, then the older, then by name: every replica decides alike. */
function isBetter(a: ServiceRecord, b: ServiceRecord): boolean {
  if (a.source.kind !== b.source.kind) return a.source.kind === 'Service';
  if (a.created !== b.created) return a.created < b.created;
  return `${a.source.namespace}/${a.source.name}` < `${b.source.namespace}/${b.source.name}`;
}
