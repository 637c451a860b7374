// The mesh as the node proxies see it, kept current one event at a time: objects in, encoded addresses out.
//
//   Gateway, GatewayClass ──────────► waypoints, network gateways
//   Service, ServiceEntry ──────────► claims of host names ──► owners: the services that are published
//   Pod, WorkloadEntry, ServiceEntry, EndpointSlice ─────────► workloads, members of the owners
//
// An event marks what is computed of the object, and what looked at it (`Reads`); the flush at the end of the turn of
// the event loop computes what is marked, from the top to the bottom of the drawing, and each stage marks in those
// below it what its changes concern. So a pod costs that pod, a label of a namespace what is in the namespace, a
// service its members. How one object becomes one resource stands in the files beside this one.

import { isDeepStrictEqual } from 'node:util';
import { objectKey } from '#k8s/informer.ts';
import type { EndpointSlice, KubeObject, Pod } from '#k8s/objects.ts';
import type { Workload } from '#model/workload.ts';
import { Claims } from './claims.ts';
import { labelsOfEntry } from './endpoint.ts';
import { Gateways } from './gateways.ts';
import { annotationsOf, isOfRevision, LABEL, type Labels, labelsOf, selectsLabels } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';
import type { NetworkGateway } from './network-gateway.ts';
import { Publisher } from './publisher.ts';
import type { ResourceSet } from './resource-set.ts';
import { recordOfService } from './service.ts';
import { recordsOfServiceEntry } from './service-entry.ts';
import { membershipText, selectsNobody } from './service-record.ts';
import { EVERYBODY, type ServiceEntryVisibility } from './service-visibility.ts';
import { podsOfSlice, serviceOfSlice } from './slice.ts';
import { type Stage, stagesOf, type Unit } from './stages.ts';
import type { ServiceBinding } from './waypoint-binding.ts';
import { type PolicySelection, Workloads } from './workloads.ts';
import { type Look, type MeshKind, type MeshObjects, type Owner, TOKEN, World } from './world.ts';

export interface AmbientIndexDeps {
  readonly addresses: ResourceSet;
  readonly policies: PolicySelection;
  /** Where policies are published that come of waypoints. */
  readonly policySet: ResourceSet;
  /** Runs the flush soon; several changes of one turn share it. */
  readonly schedule: (run: () => void) => void;
}

export interface AmbientIndexOptions {
  readonly clusterId: string;
  readonly trustDomain: string;
  readonly domainSuffix: string;
  /** Its label names the network of the whole cluster. */
  readonly systemNamespace: string;
  readonly allocatedVips: boolean;
  /** Publish policies that let only a waypoint in to whom it stands before (§2.16). */
  readonly onlyByWaypoint: boolean;
  /** ServiceEntries and WorkloadEntries labelled for another revision are not ours (§1.2). */
  readonly revision: string;
}

/** What the mesh configuration decides here; the rest of it is others' business. */
export interface MeshSettings {
  readonly serviceEntryVisibility: ServiceEntryVisibility;
}

export class AmbientIndex {
  readonly #deps: AmbientIndexDeps;
  readonly #options: AmbientIndexOptions;
  #mesh: MeshFacts;

  readonly #world = new World();
  readonly #claims = new Claims();
  readonly #publisher: Publisher;
  readonly #gateways: Gateways;
  readonly #workloads: Workloads;
  readonly #dirty: Readonly<Record<Unit, Set<string>>> = {
    gateway: new Set(),
    service: new Set(),
    serviceEntry: new Set(),
    pod: new Set(),
    workloadEntry: new Set(),
    endpoints: new Set(),
    slice: new Set(),
  };
  #scheduled = false;

  constructor(deps: AmbientIndexDeps, options: AmbientIndexOptions) {
    const { clusterId, trustDomain, domainSuffix } = options;
    this.#deps = deps;
    this.#options = options;
    this.#publisher = new Publisher(deps.addresses);
    this.#mesh = {
      clusterId,
      trustDomain,
      domainSuffix,
      network: '',
      allocatedVips: options.allocatedVips,
      onlyByWaypoint: options.onlyByWaypoint,
      serviceEntryVisibility: EVERYBODY,
    };
    const mesh = (): MeshFacts => this.#mesh;
    this.#gateways = new Gateways({
      world: this.#world,
      publisher: this.#publisher,
      policySet: deps.policySet,
      mesh,
      touch: (token) => this.#touch(token),
    });
    this.#workloads = new Workloads(this.#world, deps.policies, mesh);
  }

  upsert<K extends MeshKind>(kind: K, object: MeshObjects[K]): void {
    const gone = isRevisioned(kind) && !isOfRevision(object, this.#options.revision);
    this.#put(kind, objectKey(object), gone ? undefined : object);
  }

  remove<K extends MeshKind>(kind: K, object: MeshObjects[K]): void {
    this.#put(kind, objectKey(object), undefined);
  }

  /** A policy that selects workloads came, changed or went. Without a namespace: in the whole mesh. */
  policiesChanged(namespace: string | undefined, touches: (labels: Labels) => boolean): void {
    const { pod, workloadEntry, serviceEntry } = this.#world.objects;
    for (const key of pod.keysIn(namespace)) if (touches(labelsOf(pod.get(key)))) this.#mark('pod', key);
    for (const key of workloadEntry.keysIn(namespace))
      if (touches(labelsOfEntry(workloadEntry.get(key)!))) this.#mark('workloadEntry', key);
    for (const key of serviceEntry.keysIn(namespace))
      if (touches(labelsOf(serviceEntry.get(key)))) this.#mark('endpoints', key);
  }

  meshChanged(settings: MeshSettings): void {
    this.#setMesh({ ...this.#mesh, ...settings });
  }

  /** Services and ServiceEntries that name a waypoint, and what came of it. */
  *bindings(): IterableIterator<readonly [kind: 'Service' | 'ServiceEntry', key: string, ServiceBinding]> {
    for (const [unit, kind] of [
      ['service', 'Service'],
      ['serviceEntry', 'ServiceEntry'],
    ] as const)
      for (const key of this.#world.objects[unit].keys()) {
        const binding = this.#claims.recordsOf(`${unit} ${key}`)[0]?.binding;
        if (binding?.waypoint !== undefined || binding?.error !== undefined) yield [kind, key, binding];
      }
  }

  /** What each stage holds and what of, from top to bottom. */
  stages(): readonly Stage[] {
    return stagesOf({
      world: this.#world,
      claims: this.#claims,
      publisher: this.#publisher,
      marked: this.#dirty,
      versionOf: (name) => this.#deps.addresses.get(name)?.version,
    });
  }

  /** Through which addresses other networks are reached. */
  networkGateways(): readonly NetworkGateway[] {
    return this.#gateways.toOtherNetworks();
  }

  /** Rebuilds what is marked and announces real changes. Runs by itself; tests and start-up call it directly. */
  flush(): void {
    // What the stages mark is done in this very flush.
    this.#scheduled = true;
    try {
      if (this.#dirty.gateway.size > 0) {
        this.#drain('gateway', (key, unit) => this.#gateways.rebuild(key, unit));
        this.#gateways.publishToOtherNetworks();
      }
      this.#drain('service', (key, unit) => this.#rebuildService(key, unit));
      this.#drain('serviceEntry', (key, unit) => this.#rebuildServiceEntry(key, unit));
      this.#claims.settle((key, before, now) => this.#ownerChanged(key, before, now));
      this.#publishWorkloads('pod', (key, look) => this.#workloads.pod(key, look));
      this.#publishWorkloads('workloadEntry', (key, look) => this.#workloads.workloadEntry(key, look));
      this.#publishWorkloads('endpoints', (key, look) => this.#workloads.endpoints(key, look));
      this.#publishWorkloads('slice', (key, look) => this.#workloads.slice(key, look));
      this.#publisher.announce();
      this.#deps.policySet.announce();
    } finally {
      this.#scheduled = false;
    }
  }

  // Events.

  #put<K extends MeshKind>(kind: K, key: string, object: MeshObjects[K] | undefined): void {
    const before = this.#world.objects[kind].put(key, object);
    if (before === undefined && object === undefined) return;
    switch (kind) {
      case 'namespace':
        if (!isDeepStrictEqual(labelsOf(before), labelsOf(object))) this.#touch(TOKEN.namespaceLabels(key));
        if (!isDeepStrictEqual(annotationsOf(before), annotationsOf(object)))
          this.#touch(TOKEN.namespaceAnnotations(key));
        if (key === this.#options.systemNamespace)
          this.#setMesh({ ...this.#mesh, network: labelsOf(object)[LABEL.network] ?? '' });
        return;
      case 'node':
        // Nodes report in every few seconds; only their place matters here.
        if (placeOf(before) !== placeOf(object)) this.#touch(TOKEN.node(key));
        return;
      case 'gatewayClass':
        this.#touch(TOKEN.gatewayClass(key));
        return;
      case 'serviceEntry':
        this.#mark('serviceEntry', key);
        this.#mark('endpoints', key);
        return;
      case 'slice':
        this.#sliceChanged(key, before as EndpointSlice | undefined, object as EndpointSlice | undefined);
        return;
      case 'pod':
        this.#podChanged(key, before as Pod | undefined, object as Pod | undefined);
        return;
      default:
        this.#mark(kind as 'gateway' | 'service' | 'workloadEntry', key);
    }
  }

  #podChanged(key: string, before: Pod | undefined, now: Pod | undefined): void {
    this.#mark('pod', key);
    if (!this.#mesh.onlyByWaypoint) return;
    const [old, gateway] = [gatewayOf(before), gatewayOf(now)];
    if (old !== undefined) this.#world.podsOfGateway.remove(old, key);
    if (gateway !== undefined) this.#world.podsOfGateway.add(gateway, key);
    for (const changed of [old, gateway]) if (changed !== undefined) this.#mark('gateway', changed);
  }

  #sliceChanged(key: string, before: EndpointSlice | undefined, now: EndpointSlice | undefined): void {
    this.#mark('slice', key);
    for (const slice of [before, now]) {
      if (slice === undefined) continue;
      const service = serviceOfSlice(slice);
      if (service === undefined) continue;
      const name = `${service.namespace}/${service.name}`;
      if (slice === before) this.#world.slicesByService.remove(name, key);
      else this.#world.slicesByService.add(name, key);
      // Slices that Kubernetes makes for a selector say nothing new about pods; only hand-written ones do.
      if (!selectsNobody(this.#world.objects.service.get(name)?.spec.selector)) continue;
      for (const pod of podsOfSlice(slice)) this.#mark('pod', pod);
    }
    for (const pod of podsOfSlice(before)) this.#world.slicesByPod.remove(pod, key);
    for (const pod of podsOfSlice(now)) this.#world.slicesByPod.add(pod, key);
  }

  #setMesh(mesh: MeshFacts): void {
    if (isDeepStrictEqual(mesh, this.#mesh)) return;
    this.#mesh = mesh;
    for (const kind of ['gateway', 'service', 'serviceEntry', 'pod', 'workloadEntry', 'slice'] as const)
      for (const key of this.#world.objects[kind].keys()) this.#mark(kind, key);
    for (const key of this.#world.objects.serviceEntry.keys()) this.#mark('endpoints', key);
  }

  #mark(unit: Unit, key: string): void {
    this.#dirty[unit].add(key);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#deps.schedule(() => this.flush());
  }

  #touch(token: string): void {
    for (const unit of this.#world.reads.readersOf(token)) {
      const space = unit.indexOf(' ');
      this.#mark(unit.slice(0, space) as Unit, unit.slice(space + 1));
    }
  }

  // Stages.

  #drain(unit: Unit, rebuild: (key: string, unit: string) => void): void {
    const keys = this.#dirty[unit];
    for (const key of keys) rebuild(key, `${unit} ${key}`);
    keys.clear();
  }

  #rebuildService(key: string, unit: string): void {
    const object = this.#world.objects.service.get(key);
    const record = this.#world.look(unit, (look) =>
      object === undefined ? undefined : recordOfService(object, look, this.#mesh),
    );
    this.#claims.set(unit, record === undefined ? [] : [record]);
  }

  #rebuildServiceEntry(key: string, unit: string): void {
    const object = this.#world.objects.serviceEntry.get(key);
    const records = this.#world.look(unit, (look) =>
      object === undefined ? [] : recordsOfServiceEntry(object, look, this.#mesh),
    );
    this.#claims.set(unit, records);
  }

  #ownerChanged(key: string, before: Owner | undefined, now: Owner | undefined): void {
    this.#publisher.publish(
      `owner ${key}`,
      now === undefined ? [] : [{ kind: 'service', service: { ...now.service, canonical: now.canonical } }],
    );
    if (now === undefined) this.#world.owners.delete(key);
    else this.#world.owners.set(key, now);
    if (before !== undefined && now !== undefined && membershipText(before) === membershipText(now)) return;
    this.#touch(TOKEN.owner(key));
    if (now === undefined) this.#world.selectors.delete(key);
    else this.#world.selectors.set(key, now.service.namespace, now.selector);
    for (const owner of [before, now]) if (owner !== undefined) this.#markMembers(owner);
  }

  #markMembers({ source, selector }: Owner): void {
    const { namespace, kind, name } = source;
    const { pod, workloadEntry } = this.#world.objects;
    if (!selectsNobody(selector)) {
      for (const key of pod.keysIn(namespace))
        if (selectsLabels(selector, labelsOf(pod.get(key)))) this.#mark('pod', key);
      for (const key of workloadEntry.keysIn(namespace))
        if (selectsLabels(selector, labelsOfEntry(workloadEntry.get(key)!))) this.#mark('workloadEntry', key);
    } else if (kind === 'Service')
      for (const slice of this.#world.slicesByService.get(`${namespace}/${name}`))
        for (const key of podsOfSlice(this.#world.objects.slice.get(slice))) this.#mark('pod', key);
  }

  #publishWorkloads(kind: Unit, compute: (key: string, look: Look) => readonly Workload[]): void {
    this.#drain(kind, (key, unit) => {
      const workloads = this.#world.look(unit, (look) => compute(key, look));
      this.#publisher.publish(
        unit,
        workloads.map((workload) => ({ kind: 'workload', workload })),
      );
    });
  }
}

const isRevisioned = (kind: MeshKind): boolean => kind === 'serviceEntry' || kind === 'workloadEntry';

function placeOf(node: KubeObject | undefined): string {
  const labels = labelsOf(node);
  return JSON.stringify([labels[LABEL.region], labels[LABEL.zone], labels[LABEL.subzone]]);
}

/** The Gateway whose waypoint or gateway the pod is. */
function gatewayOf(pod: Pod | undefined): string | undefined {
  const name = labelsOf(pod)[LABEL.gatewayName];
  return name === undefined ? undefined : `${pod?.metadata.namespace ?? ''}/${name}`;
}
