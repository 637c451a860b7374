// The workloads of each kind of object, from what the index knows (control-plane.md §2.4–§2.7): which services, policies,
// waypoint and network gateway go with one. The objects' own fields are read in pod.ts, endpoint.ts and slice.ts.

import type { EndpointSpec } from '#k8s/mesh-objects.ts';
import type { Pod } from '#k8s/objects.ts';
import type { Workload } from '#model/workload.ts';
import { allowancesFor } from '../policies/waypoint-allowance.ts';
import {
  hostsAreEndpoints,
  labelsOfEntry,
  networkOf,
  workloadOfEntry,
  workloadOfServiceEntry,
} from './endpoint.ts';
import { type Labels, labelsOf } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';
import { podAddresses, type Surroundings, workloadOfPod } from './pod.ts';
import { serviceHostname } from './service.ts';
import { selectsNobody } from './service-record.ts';
import { serviceOfSlice, sliceNamesPod, workloadsOfSlice } from './slice.ts';
import { bindWorkload, type WorkloadBinding } from './waypoint-binding.ts';
import type { Look, Owner, World } from './world.ts';

/** Which selector-scoped policies a workload lists (§2.16, §2.17). */
export interface PolicySelection {
  policiesFor(namespace: string, labels: Labels): readonly string[];
}

const NO_BINDING: WorkloadBinding = Object.freeze({ waypoint: undefined, applicationTunnel: undefined });

export class Workloads {
  readonly #world: World;
  readonly #policies: PolicySelection;
  readonly #facts: () => MeshFacts;

  constructor(world: World, policies: PolicySelection, facts: () => MeshFacts) {
    this.#world = world;
    this.#policies = policies;
    this.#facts = facts;
  }

  pod(key: string, look: Look): readonly Workload[] {
    const pod = this.#world.objects.pod.get(key);
    const ips = pod === undefined ? undefined : podAddresses(pod);
    if (pod === undefined || ips === undefined) return [];
    const namespace = pod.metadata.namespace ?? '';
    const labels = labelsOf(pod);
    const services = [...this.#selected(namespace, labels), ...this.#named(key, pod, look)];
    const binding = bindWorkload({ namespace, labels }, look);
    const around = this.#around(namespace, labels, this.#facts().network, services, binding, look);
    return [workloadOfPod(pod, ips, this.#facts(), look.node(pod.spec.nodeName ?? ''), around)];
  }

  workloadEntry(key: string, look: Look): readonly Workload[] {
    const entry = this.#world.objects.workloadEntry.get(key);
    if (entry === undefined) return [];
    const namespace = entry.metadata.namespace ?? '';
    const labels = labelsOfEntry(entry);
    const services = [...this.#selected(namespace, labels)];
    const binding = bindWorkload({ namespace, labels }, look);
    const network = networkOf(entry.spec, this.#facts());
    return [
      workloadOfEntry(
        entry,
        this.#facts(),
        this.#around(namespace, labels, network, services, binding, look),
      ),
    ];
  }

  /** Of the hosts that the entry lost to others nothing is left. */
  endpoints(key: string, look: Look): readonly Workload[] {
    const entry = this.#world.objects.serviceEntry.get(key);
    if (entry === undefined) return [];
    const namespace = entry.metadata.namespace ?? '';
    const owned = [...new Set(entry.spec?.hosts ?? [])].flatMap((host) => {
      const owner = look.owner(namespace, host);
      const isOurs = owner?.source.kind === 'ServiceEntry' && owner.source.name === entry.metadata.name;
      return isOurs ? [owner] : [];
    });
    if (owned.length === 0) return [];
    const workload = (endpoint: EndpointSpec, services: readonly Owner[], binding: WorkloadBinding) => {
      const network = networkOf(endpoint, this.#facts());
      const around = this.#around(namespace, labelsOf(entry), network, services, binding, look);
      return workloadOfServiceEntry(entry, endpoint, this.#facts(), around);
    };
    if (hostsAreEndpoints(entry))
      return owned.map((owner) => workload({ address: owner.service.hostname }, [owner], NO_BINDING));
    return (entry.spec?.endpoints ?? []).map((endpoint) =>
      workload(endpoint, owned, bindWorkload({ namespace, labels: endpoint.labels ?? {} }, look)),
    );
  }

  slice(key: string, look: Look): readonly Workload[] {
    const slice = this.#world.objects.slice.get(key);
    const service = slice === undefined ? undefined : serviceOfSlice(slice);
    if (slice === undefined || service === undefined) return [];
    return workloadsOfSlice(slice, this.#serviceNamed(service, look), this.#facts());
  }

  #around(
    namespace: string,
    labels: Labels,
    network: string,
    services: readonly Owner[],
    binding: WorkloadBinding,
    look: Look,
  ): Surroundings {
    return {
      services,
      binding,
      policies: [
        ...this.#policies.policiesFor(namespace, labels),
        ...(this.#facts().onlyByWaypoint ? this.#allowances(services, binding, look) : []),
      ],
      networkGateway: look.networkGateway(network),
    };
  }

  #allowances(services: readonly Owner[], binding: WorkloadBinding, look: Look): readonly string[] {
    const named = [binding.waypoint, ...services.map((owner) => owner.binding.waypoint)];
    // As it is now: the record of a service remembers the waypoint as it was bound.
    return allowancesFor(
      named.flatMap((it) => (it === undefined ? [] : (look.waypoint(it.namespace, it.name) ?? []))),
    );
  }

  *#selected(namespace: string, labels: Labels): Iterable<Owner> {
    for (const key of this.#world.selectors.matching(namespace, labels)) yield this.#world.owners.get(key)!;
  }

  /** A service without selector has the pods that its hand-written slices name. */
  *#named(key: string, pod: Pod, look: Look): Iterable<Owner> {
    const found = new Set<Owner>();
    for (const name of this.#world.slicesByPod.get(key)) {
      const slice = this.#world.objects.slice.get(name);
      const service = slice === undefined ? undefined : serviceOfSlice(slice);
      if (slice === undefined || service === undefined || !sliceNamesPod(slice, pod)) continue;
      const owner = this.#serviceNamed(service, look);
      if (owner === undefined || !selectsNobody(owner.selector) || found.has(owner)) continue;
      found.add(owner);
      yield owner;
    }
  }

  #serviceNamed({ namespace, name }: { namespace: string; name: string }, look: Look): Owner | undefined {
    const owner = look.owner(namespace, serviceHostname(name, namespace, this.#facts().domainSuffix));
    return owner?.source.kind === 'Service' ? owner : undefined;
  }
}
