// What a node proxy knows of the mesh: workloads, services, policies. Fed by the xDS client, read by the pure decisions
// (route.ts, inbound.ts, authorize.ts). An update costs what it changes, never the whole state (ztunnel.md §3.4, §3.6).

import { type Clock, systemClock } from '#base/clock.ts';
import type { IpAddress } from '#net/ip.ts';
import type { Address } from './address.ts';
import type { Policy, PolicyKey } from './policy.ts';
import { PolicyIndex } from './policy-index.ts';
import { type ServiceEntry, ServiceIndex } from './service-index.ts';
import type { ServiceKey, Workload, WorkloadUid } from './workload.ts';

/** One batch, applied at once: removals first. */
export interface StoreUpdate {
  readonly addresses?: readonly Address[];
  /** A workload's uid or `namespace/hostname` of a service. */
  readonly removedAddresses?: readonly string[];
  readonly policies?: readonly Policy[];
  readonly removedPolicies?: readonly string[];
}

export interface WorkloadChange {
  readonly uid: WorkloadUid;
  readonly before: Workload | undefined;
  readonly after: Workload | undefined;
}

/** What decisions need: look-ups only. */
export interface StoreView {
  workload(uid: WorkloadUid): Workload | undefined;
  /** Never a host-network workload: its address belongs to the node. */
  workloadByIp(network: string, ip: IpAddress): Workload | undefined;
  /** A workload that spoke HBONE had the address until a moment ago, and nobody has it now. */
  wasInMesh(network: string, ip: IpAddress): boolean;
  workloadByHostname(namespace: string, hostname: string): Workload | undefined;
  service(key: ServiceKey): ServiceEntry | undefined;
  /** The best service visible to the namespace that owns the VIP, exactly or by range. */
  serviceByVip(network: string, ip: IpAddress, clientNamespace: string): ServiceEntry | undefined;
  serviceByHostname(hostname: string, clientNamespace: string): ServiceEntry | undefined;
  /** Whoever may see them, in the order of insertion: namespaces may share a host name. */
  servicesByHostname(hostname: string): readonly ServiceEntry[];
  policiesFor(
    workload: Pick<Workload, 'namespace' | 'authorizationPolicies'>,
    onMissing?: (key: PolicyKey) => void,
  ): Policy[];
}

export interface Store extends StoreView {
  /** Grows with every change; a verdict can be stamped with the version it was judged under. */
  readonly configVersion: number;
  /** `encoded`: what the update was read from, for `onApply`. */
  apply(update: StoreUpdate, encoded?: Uint8Array): void;
  /** The pod that ZDS described (ztunnel.md §6.1); only workloads of this node are searched. */
  localWorkload(name: string, namespace: string, serviceAccount: string): Workload | undefined;
  /** Workloads of this node that share an identity; empty when the last one has gone. */
  localWorkloads(namespace: string, serviceAccount: string): readonly Workload[];
  workloads(): Iterable<Workload>;
  services(): Iterable<ServiceEntry>;
  policies(): Iterable<Policy>;
  stagedEndpoints(): ReadonlyMap<ServiceKey, ReadonlyMap<WorkloadUid, Workload>>;
  /** Once per batch that changed a policy, after the batch. Returns how to stop. */
  onPolicyChange(handler: () => void): () => void;
  /** Once per batch that changed a workload, after the batch. Returns how to stop. */
  onWorkloadChange(handler: (changes: readonly WorkloadChange[]) => void): () => void;
}

export interface StoreOptions {
  /** Name of the node this proxy serves; undefined when it is not known, and every workload may be the local one. */
  readonly localNode: string | undefined;
  /** Told of every update once it is applied: other threads keep a store of their own. */
  readonly onApply?: ((update: StoreUpdate, encoded: Uint8Array | undefined) => void) | undefined;
  readonly clock?: Pick<Clock, 'monotonicMs'>;
}

/**
 * A pod is gone from the mesh before it is gone from its address, and whoever dials it in between must not be taken for one
 * who dials somewhere outside the mesh: that would be in plaintext.
 */
const REMEMBERED_MS = 10_000;

export function createStore(options: StoreOptions): Store {
  return new MeshStore(options);
}

class MeshStore implements Store {
  readonly #localNode: string | undefined;
  readonly #onApply: StoreOptions['onApply'];
  readonly #workloads = new Map<WorkloadUid, Workload>();
  /** Network → address → workloads in the order of insertion; nearly always one. */
  readonly #byIp = new Map<string, Map<IpAddress, Workload[]>>();
  /** `namespace/service account` → workloads of this node. */
  readonly #local = new Map<string, Workload[]>();
  /** `network/address` → monotonic time until which it is remembered; the first to go first. */
  readonly #departed = new Map<string, number>();
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #services = new ServiceIndex();
  readonly #policies = new PolicyIndex();
  readonly #policyListeners = new Set<() => void>();
  readonly #workloadListeners = new Set<(changes: readonly WorkloadChange[]) => void>();
  #configVersion = 0;

  constructor(options: StoreOptions) {
    this.#localNode = options.localNode;
    this.#onApply = options.onApply;
    this.#clock = options.clock ?? systemClock;
  }

  get configVersion(): number {
    return this.#configVersion;
  }

  apply(update: StoreUpdate, encoded?: Uint8Array): void {
    this.#change(update);
    this.#onApply?.(update, encoded);
  }

  #change(update: StoreUpdate): void {
    const changes = new Map<WorkloadUid, WorkloadChange>();
    let servicesChanged = false;
    let policiesChanged = false;
    for (const name of update.removedAddresses ?? []) {
      if (this.#removeWorkload(name as WorkloadUid, changes)) continue;
      // More than one slash cannot be a service: an unknown workload, already gone.
      if (name.indexOf('/') === name.lastIndexOf('/') && this.#services.remove(name as ServiceKey))
        servicesChanged = true;
    }
    for (const address of update.addresses ?? []) {
      if (address.kind === 'workload') this.#putWorkload(address.workload, changes);
      else {
        this.#services.put(address.service);
        servicesChanged = true;
      }
    }
    for (const name of update.removedPolicies ?? []) {
      if (this.#policies.remove(name as PolicyKey)) policiesChanged = true;
    }
    for (const policy of update.policies ?? []) {
      this.#policies.put(policy);
      policiesChanged = true;
    }
    if (changes.size === 0 && !servicesChanged && !policiesChanged) return;
    this.#configVersion++;
    if (changes.size > 0) {
      const list = [...changes.values()];
      for (const listener of [...this.#workloadListeners]) listener(list);
    }
    if (policiesChanged) for (const listener of [...this.#policyListeners]) listener();
  }

  workload(uid: WorkloadUid): Workload | undefined {
    return this.#workloads.get(uid);
  }

  workloadByIp(network: string, ip: IpAddress): Workload | undefined {
    const sharing = this.#byIp.get(network)?.get(ip);
    if (sharing === undefined || sharing.length === 1) return sharing?.[0];
    return sharing.reduce((best, next) => (rank(next) >= rank(best) ? next : best));
  }

  wasInMesh(network: string, ip: IpAddress): boolean {
    const untilMs = this.#departed.get(`${network}/${ip}`);
    return untilMs !== undefined && this.#clock.monotonicMs() < untilMs;
  }

  workloadByHostname(namespace: string, hostname: string): Workload | undefined {
    // Only gateway references by host name of a workload come here; they are rare enough for a scan.
    for (const workload of this.#workloads.values())
      if (workload.hostname === hostname && workload.namespace === namespace) return workload;
    return undefined;
  }

  localWorkload(name: string, namespace: string, serviceAccount: string): Workload | undefined {
    return this.localWorkloads(namespace, serviceAccount).find((workload) => workload.name === name);
  }

  localWorkloads(namespace: string, serviceAccount: string): readonly Workload[] {
    return this.#local.get(`${namespace}/${serviceAccount}`) ?? [];
  }

  service(key: ServiceKey): ServiceEntry | undefined {
    return this.#services.get(key);
  }

  serviceByVip(network: string, ip: IpAddress, clientNamespace: string): ServiceEntry | undefined {
    return this.#services.byVip(network, ip, clientNamespace);
  }

  serviceByHostname(hostname: string, clientNamespace: string): ServiceEntry | undefined {
    return this.#services.byHostname(hostname, clientNamespace);
  }

  servicesByHostname(hostname: string): readonly ServiceEntry[] {
    return this.#services.allByHostname(hostname);
  }

  policiesFor(
    workload: Pick<Workload, 'namespace' | 'authorizationPolicies'>,
    onMissing?: (key: PolicyKey) => void,
  ): Policy[] {
    return this.#policies.appliesTo(workload, onMissing);
  }

  workloads(): Iterable<Workload> {
    return this.#workloads.values();
  }

  services(): Iterable<ServiceEntry> {
    return this.#services.all();
  }

  policies(): Iterable<Policy> {
    return this.#policies.all();
  }

  stagedEndpoints(): ReadonlyMap<ServiceKey, ReadonlyMap<WorkloadUid, Workload>> {
    return this.#services.staged;
  }

  onPolicyChange(handler: () => void): () => void {
    const own = (): void => handler();
    this.#policyListeners.add(own);
    return () => {
      this.#policyListeners.delete(own);
    };
  }

  onWorkloadChange(handler: (changes: readonly WorkloadChange[]) => void): () => void {
    const own = (changes: readonly WorkloadChange[]): void => handler(changes);
    this.#workloadListeners.add(own);
    return () => {
      this.#workloadListeners.delete(own);
    };
  }

  #putWorkload(workload: Workload, changes: Map<WorkloadUid, WorkloadChange>): void {
    const { uid } = workload;
    const before = this.#workloads.get(uid);
    if (before !== undefined) this.#unlink(before, workload);
    this.#workloads.set(uid, workload);
    if (workload.networkMode !== 'HostNetwork') {
      for (const ip of new Set(workload.ips)) {
        const addresses = this.#byIp.get(workload.network) ?? new Map<IpAddress, Workload[]>();
        this.#byIp.set(workload.network, addresses);
        const sharing = addresses.get(ip);
        if (sharing === undefined) addresses.set(ip, [workload]);
        else sharing.push(workload);
      }
    }
    if (this.#isLocal(workload)) {
      const key = localKey(workload);
      const peers = this.#local.get(key);
      if (peers === undefined) this.#local.set(key, [workload]);
      else peers.push(workload);
    }
    for (const key of workload.services.keys()) this.#services.addEndpoint(key, workload);
    note(changes, uid, before, workload);
  }

  #removeWorkload(uid: WorkloadUid, changes: Map<WorkloadUid, WorkloadChange>): boolean {
    const before = this.#workloads.get(uid);
    if (before === undefined) return false;
    this.#unlink(before, undefined);
    this.#workloads.delete(uid);
    note(changes, uid, before, undefined);
    return true;
  }

  /** Takes a workload out of the indexes, except out of the services that its successor is about to join again. */
  #unlink(workload: Workload, successor: Workload | undefined): void {
    const addresses = this.#byIp.get(workload.network);
    if (addresses !== undefined && workload.networkMode !== 'HostNetwork') {
      for (const ip of workload.ips) removeFrom(addresses, ip, workload);
      if (workload.protocol === 'HBONE') this.#remember(workload, successor);
      if (addresses.size === 0) this.#byIp.delete(workload.network);
    }
    if (this.#isLocal(workload)) removeFrom(this.#local, localKey(workload), workload);
    for (const key of workload.services.keys())
      if (successor?.services.has(key) !== true) this.#services.removeEndpoint(key, workload.uid);
  }

  #remember({ network, ips }: Workload, successor: Workload | undefined): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [address, untilMs] of this.#departed) {
      if (nowMs < untilMs) break;
      this.#departed.delete(address);
    }
    for (const ip of ips) {
      if (successor?.network === network && successor.ips.includes(ip)) continue;
      const address = `${network}/${ip}`;
      this.#departed.delete(address);
      this.#departed.set(address, nowMs + REMEMBERED_MS);
    }
  }

  #isLocal(workload: Workload): boolean {
    return this.#localNode === undefined || (workload.node !== '' && workload.node === this.#localNode);
  }
}

function localKey(workload: Workload): string {
  return `${workload.namespace}/${workload.serviceAccount}`;
}

/** Several workloads on one address: pods first, then those that speak HBONE; the last of equals. */
function rank(workload: Workload): number {
  return (workload.uid.includes('//Pod/') ? 2 : 0) + (workload.protocol === 'HBONE' ? 1 : 0);
}

/** Two changes of one workload in a batch are one change, seen from before the batch. */
function note(
  changes: Map<WorkloadUid, WorkloadChange>,
  uid: WorkloadUid,
  before: Workload | undefined,
  after: Workload | undefined,
): void {
  const earlier = changes.get(uid);
  changes.set(uid, { uid, before: earlier === undefined ? before : earlier.before, after });
}

function removeFrom<K>(map: Map<K, Workload[]>, key: K, workload: Workload): void {
  const left = map.get(key)?.filter((other) => other !== workload);
  if (left === undefined || left.length === 0) map.delete(key);
  else map.set(key, left);
}
