// Services and their endpoints, found by key, host name, exact VIP and VIP range (ztunnel.md §3.6, §6.3).
// Invariant: a service's endpoints are exactly the known workloads that list it; those of unknown services are staged.

import { type Cidr, cidrContains } from '#net/cidr.ts';
import type { IpAddress } from '#net/ip.ts';
import type { Service } from './service.ts';
import { type ServiceKey, serviceKey, type Workload, type WorkloadUid } from './workload.ts';

/** A service with its endpoints, healthy or not: who may use which is decided in load-balance.ts. */
export interface ServiceEntry {
  readonly key: ServiceKey;
  readonly service: Service;
  readonly endpoints: ReadonlyMap<WorkloadUid, Workload>;
}

interface MutableEntry extends ServiceEntry {
  readonly endpoints: Map<WorkloadUid, Workload>;
}

interface Range {
  readonly network: string;
  readonly cidr: Cidr;
  readonly entry: ServiceEntry;
}

export class ServiceIndex {
  readonly #byKey = new Map<ServiceKey, MutableEntry>();
  /** Network → VIP → services, the one told of last at the end. Namespaces may share a VIP. */
  readonly #byVip = new Map<string, Map<IpAddress, ServiceEntry[]>>();
  readonly #byHostname = new Map<string, ServiceEntry[]>();
  #ranges: Range[] = [];
  readonly #staged = new Map<ServiceKey, Map<WorkloadUid, Workload>>();

  get(key: ServiceKey): ServiceEntry | undefined {
    return this.#byKey.get(key);
  }

  all(): Iterable<ServiceEntry> {
    return this.#byKey.values();
  }

  get staged(): ReadonlyMap<ServiceKey, ReadonlyMap<WorkloadUid, Workload>> {
    return this.#staged;
  }

  /** Replaces the service of the same key, which keeps its endpoints. */
  put(service: Service): void {
    const key = serviceKey(service.namespace, service.hostname);
    const before = this.#byKey.get(key);
    if (before !== undefined) this.#unlink(before);
    // To the end: `all` is in the order in which services were last told of, as every other index here.
    this.#byKey.delete(key);
    const endpoints = before?.endpoints ?? this.#staged.get(key) ?? new Map<WorkloadUid, Workload>();
    this.#staged.delete(key);
    const entry: MutableEntry = { key, service, endpoints };
    this.#byKey.set(key, entry);
    for (const { network, ip } of service.vips) {
      const vips = getOrMake(this.#byVip, network, () => new Map<IpAddress, ServiceEntry[]>());
      const sharing = getOrMake(vips, ip, () => []);
      if (!sharing.includes(entry)) sharing.push(entry);
    }
    for (const { network, cidr } of service.cidrVips) this.#ranges.push({ network, cidr, entry });
    getOrMake(this.#byHostname, service.hostname, () => []).push(entry);
  }

  /** True when there was one. Its endpoints are staged: the workloads still list it, should it come back. */
  remove(key: ServiceKey): boolean {
    const entry = this.#byKey.get(key);
    if (entry === undefined) return false;
    this.#unlink(entry);
    this.#byKey.delete(key);
    if (entry.endpoints.size > 0) this.#staged.set(key, entry.endpoints);
    return true;
  }

  addEndpoint(key: ServiceKey, workload: Workload): void {
    const endpoints = this.#byKey.get(key)?.endpoints ?? getOrMake(this.#staged, key, () => new Map());
    endpoints.set(workload.uid, workload);
  }

  removeEndpoint(key: ServiceKey, uid: WorkloadUid): void {
    const entry = this.#byKey.get(key);
    if (entry !== undefined) {
      entry.endpoints.delete(uid);
      return;
    }
    const staged = this.#staged.get(key);
    staged?.delete(uid);
    if (staged?.size === 0) this.#staged.delete(key);
  }

  /** Exact VIPs before ranges; among equals the client's own namespace, then canonical, then the first inserted. */
  byVip(network: string, ip: IpAddress, clientNamespace: string): ServiceEntry | undefined {
    const exact = best(this.#byVip.get(network)?.get(ip) ?? [], clientNamespace);
    if (exact !== undefined || this.#ranges.length === 0) return exact;
    let chosen: Range | undefined;
    for (const range of this.#ranges) {
      if (range.network !== network || !visible(range.entry.service, clientNamespace)) continue;
      if (!cidrContains(range.cidr, ip)) continue;
      if (chosen === undefined || betterRange(range, chosen, clientNamespace)) chosen = range;
    }
    return chosen?.entry;
  }

  /** All of that name, in the order of insertion: namespaces may share one. */
  allByHostname(hostname: string): readonly ServiceEntry[] {
    return this.#byHostname.get(hostname) ?? [];
  }

  byHostname(hostname: string, clientNamespace: string): ServiceEntry | undefined {
    return best(this.#byHostname.get(hostname) ?? [], clientNamespace);
  }

  #unlink(entry: ServiceEntry): void {
    const { service } = entry;
    for (const { network, ip } of service.vips) {
      const vips = this.#byVip.get(network);
      if (vips === undefined) continue;
      removeFrom(vips, ip, entry);
      if (vips.size === 0) this.#byVip.delete(network);
    }
    if (service.cidrVips.length > 0) this.#ranges = this.#ranges.filter((range) => range.entry !== entry);
    removeFrom(this.#byHostname, service.hostname, entry);
  }
}

export function visible(service: Service, clientNamespace: string): boolean {
  return service.visibility === 'Public' || service.namespace === clientNamespace;
}

function best(entries: readonly ServiceEntry[], clientNamespace: string): ServiceEntry | undefined {
  let chosen: ServiceEntry | undefined;
  for (const entry of entries.length < 2 ? entries : lastOfEachNamespace(entries)) {
    if (!visible(entry.service, clientNamespace)) continue;
    if (entry.service.namespace === clientNamespace) return entry;
    if (chosen === undefined || (entry.service.canonical && !chosen.service.canonical)) chosen = entry;
  }
  return chosen;
}

/** Of services of one namespace that share a VIP the last one told of counts, in the place of the first. */
function lastOfEachNamespace(entries: readonly ServiceEntry[]): Iterable<ServiceEntry> {
  const byNamespace = new Map<string, ServiceEntry>();
  for (const entry of entries) byNamespace.set(entry.service.namespace, entry);
  return byNamespace.values();
}

/** Lexicographic: same namespace, longer prefix, canonical. Equal ranges keep the earlier one. */
function betterRange(candidate: Range, current: Range, clientNamespace: string): boolean {
  const rank = ({ cidr, entry: { service } }: Range): [number, number, number] => [
    Number(service.namespace === clientNamespace),
    cidr.prefixLength,
    Number(service.canonical),
  ];
  const left = rank(candidate);
  const right = rank(current);
  for (let index = 0; index < left.length; index++) {
    if (left[index] !== right[index]) return left[index]! > right[index]!;
  }
  return false;
}

function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

function removeFrom<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const left = map.get(key)?.filter((other) => other !== value);
  if (left === undefined || left.length === 0) map.delete(key);
  else map.set(key, left);
}
