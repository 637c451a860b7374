// The mesh as the node proxies see it, kept current one event at a time: objects in, encoded addresses out.
//
//   Pod, Service, EndpointSlice, Node, Namespace, policies        (events)
//        └─ mark what depends on the changed object as dirty       cost: what depends on it, never the whole mesh
//             └─ flush: rebuild the dirty ones, publish on change  (once per turn of the event loop)
//
// How one object becomes one resource stands in pod.ts, service.ts and slice.ts; which policies a workload carries is
// asked from `PolicySelection`. Watching is the informers' business, pushing the xDS server's.

import { objectKey } from '#k8s/informer.ts';
import type { EndpointSlice, Service as KubeService, Namespace, Node, Pod } from '#k8s/objects.ts';
import { type Address, addressName } from '#model/address.ts';
import { encodeAddress } from '#proto/workload.ts';
import { addressKeys } from './address-keys.ts';
import { GroupIndex } from './group-index.ts';
import { ANNOTATION, annotationsOf, LABEL, type Labels, labelsOf, selectsLabels } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';
import { workloadOfPod } from './pod.ts';
import type { ResourceSet } from './resource-set.ts';
import { serviceOf } from './service.ts';
import { podsOfSlice, serviceOfSlice, sliceNamesPod, workloadsOfSlice } from './slice.ts';

/** Which selector-scoped policies a workload lists (§2.16, §2.17). */
export interface PolicySelection {
  policiesFor(namespace: string, labels: Labels): readonly string[];
}

export interface AmbientIndexDeps {
  readonly addresses: ResourceSet;
  readonly policies: PolicySelection;
  /** Runs the flush soon; several changes of one turn share it. */
  readonly schedule: (run: () => void) => void;
}

export interface AmbientIndexOptions {
  readonly clusterId: string;
  readonly trustDomain: string;
  readonly domainSuffix: string;
  /** Its label names the network of the whole cluster. */
  readonly systemNamespace: string;
}

export class AmbientIndex {
  readonly #deps: AmbientIndexDeps;
  readonly #systemNamespace: string;
  #mesh: MeshFacts;

  readonly #pods = new Map<string, Pod>();
  readonly #services = new Map<string, KubeService>();
  readonly #slices = new Map<string, EndpointSlice>();
  readonly #nodes = new Map<string, Node>();
  readonly #namespaces = new Map<string, Namespace>();

  readonly #podsByNamespace = new GroupIndex();
  readonly #podsByNode = new GroupIndex();
  readonly #servicesByNamespace = new GroupIndex();
  readonly #slicesByService = new GroupIndex();
  /** Slices by the pods that their endpoints name. */
  readonly #slicesByPod = new GroupIndex();

  /** What each source object has published, to withdraw it: a slice may stand for several workloads. */
  readonly #publishedBy = new Map<string, readonly string[]>();
  readonly #dirtyPods = new Set<string>();
  readonly #dirtyServices = new Set<string>();
  readonly #dirtySlices = new Set<string>();
  #scheduled = false;

  constructor(deps: AmbientIndexDeps, options: AmbientIndexOptions) {
    const { clusterId, trustDomain, domainSuffix } = options;
    this.#deps = deps;
    this.#systemNamespace = options.systemNamespace;
    this.#mesh = { clusterId, trustDomain, domainSuffix, network: '' };
  }

  upsertPod(pod: Pod): void {
    const key = objectKey(pod);
    const old = this.#pods.get(key);
    this.#pods.set(key, pod);
    this.#podsByNamespace.add(pod.metadata.namespace ?? '', key);
    if (old?.spec.nodeName !== pod.spec.nodeName) {
      this.#podsByNode.remove(old?.spec.nodeName ?? '', key);
      this.#podsByNode.add(pod.spec.nodeName ?? '', key);
    }
    this.#markPod(key);
  }

  removePod(pod: Pod): void {
    const key = objectKey(pod);
    const old = this.#pods.get(key);
    this.#pods.delete(key);
    this.#podsByNamespace.remove(pod.metadata.namespace ?? '', key);
    this.#podsByNode.remove(old?.spec.nodeName ?? '', key);
    this.#markPod(key);
  }

  upsertService(service: KubeService): void {
    const key = objectKey(service);
    const old = this.#services.get(key);
    this.#services.set(key, service);
    this.#servicesByNamespace.add(service.metadata.namespace ?? '', key);
    this.#serviceChanged(key, old, service);
  }

  removeService(service: KubeService): void {
    const key = objectKey(service);
    const old = this.#services.get(key);
    this.#services.delete(key);
    this.#servicesByNamespace.remove(service.metadata.namespace ?? '', key);
    this.#serviceChanged(key, old, undefined);
  }

  upsertSlice(slice: EndpointSlice): void {
    const key = objectKey(slice);
    this.#unlinkSlice(key);
    this.#slices.set(key, slice);
    const service = serviceOfSlice(slice);
    if (service !== undefined) this.#slicesByService.add(service, key);
    for (const pod of podsOfSlice(slice)) this.#slicesByPod.add(pod, key);
    this.#sliceChanged(key);
  }

  removeSlice(slice: EndpointSlice): void {
    const key = objectKey(slice);
    this.#unlinkSlice(key);
    this.#markSlice(key);
  }

  upsertNode(node: Node): void {
    this.#nodeChanged(node.metadata.name, node);
  }

  removeNode(node: Node): void {
    this.#nodeChanged(node.metadata.name, undefined);
  }

  upsertNamespace(namespace: Namespace): void {
    this.#namespaceChanged(namespace.metadata.name, namespace);
  }

  removeNamespace(namespace: Namespace): void {
    this.#namespaceChanged(namespace.metadata.name, undefined);
  }

  /** A policy that selects workloads came, changed or went. Without a namespace: in the whole mesh. */
  policiesChanged(namespace: string | undefined, touches: (labels: Labels) => boolean): void {
    const keys = namespace === undefined ? this.#pods.keys() : this.#podsByNamespace.get(namespace);
    for (const key of keys) {
      const pod = this.#pods.get(key);
      if (pod !== undefined && touches(labelsOf(pod))) this.#markPod(key);
    }
  }

  /** Rebuilds what is dirty and announces real changes. Runs by itself; tests and start-up call it directly. */
  flush(): void {
    this.#scheduled = false;
    for (const key of this.#dirtyServices) this.#rebuildService(key);
    for (const key of this.#dirtyPods) this.#rebuildPod(key);
    for (const key of this.#dirtySlices) this.#rebuildSlice(key);
    this.#dirtyServices.clear();
    this.#dirtyPods.clear();
    this.#dirtySlices.clear();
    this.#deps.addresses.announce();
  }

  #rebuildPod(key: string): void {
    const pod = this.#pods.get(key);
    const workload = pod === undefined ? undefined : workloadOfPod(pod, this.#mesh, this.#around(key, pod));
    this.#publish(`pod/${key}`, workload === undefined ? [] : [{ kind: 'workload', workload }]);
  }

  #rebuildService(key: string): void {
    const kube = this.#services.get(key);
    const namespace = this.#namespaces.get(kube?.metadata.namespace ?? '');
    const service = kube === undefined ? undefined : serviceOf(kube, namespace, this.#mesh);
    this.#publish(`service/${key}`, service === undefined ? [] : [{ kind: 'service', service }]);
  }

  #rebuildSlice(key: string): void {
    const slice = this.#slices.get(key);
    const service = slice === undefined ? undefined : serviceOfSlice(slice);
    const workloads =
      slice === undefined || service === undefined
        ? []
        : workloadsOfSlice(slice, this.#services.get(service), this.#mesh);
    this.#publish(
      `slice/${key}`,
      workloads.map((workload) => ({ kind: 'workload', workload })),
    );
  }

  #publish(source: string, resources: readonly Address[]): void {
    const { addresses } = this.#deps;
    const names: string[] = resources.map(addressName);
    for (const name of this.#publishedBy.get(source) ?? []) if (!names.includes(name)) addresses.delete(name);
    for (const address of resources)
      addresses.set(addressName(address), encodeAddress(address), addressKeys(address));
    if (names.length === 0) this.#publishedBy.delete(source);
    else this.#publishedBy.set(source, names);
  }

  #around(key: string, pod: Pod): Parameters<typeof workloadOfPod>[2] {
    const namespace = pod.metadata.namespace ?? '';
    const labels = labelsOf(pod);
    return {
      node: this.#nodes.get(pod.spec.nodeName ?? ''),
      services: this.#servicesWith(key, pod),
      policies: this.#deps.policies.policiesFor(namespace, labels),
    };
  }

  #servicesWith(key: string, pod: Pod): KubeService[] {
    const labels = labelsOf(pod);
    const members = new Map<string, KubeService>();
    for (const serviceName of this.#servicesByNamespace.get(pod.metadata.namespace ?? '')) {
      const service = this.#services.get(serviceName);
      if (service !== undefined && inMesh(service) && selectsLabels(service.spec.selector, labels))
        members.set(serviceName, service);
    }
    // A service without selector has the pods that its hand-written slices name.
    for (const sliceName of this.#slicesByPod.get(key)) {
      const slice = this.#slices.get(sliceName);
      const serviceName = slice === undefined ? undefined : serviceOfSlice(slice);
      const service = serviceName === undefined ? undefined : this.#services.get(serviceName);
      if (slice === undefined || serviceName === undefined || service === undefined) continue;
      if (inMesh(service) && !hasSelector(service) && sliceNamesPod(slice, pod))
        members.set(serviceName, service);
    }
    return [...members.values()];
  }

  #serviceChanged(key: string, old: KubeService | undefined, now: KubeService | undefined): void {
    this.#dirtyServices.add(key);
    const namespace = (now ?? old)?.metadata.namespace ?? '';
    this.policiesChanged(
      namespace,
      (labels) => selectsLabels(old?.spec.selector, labels) || selectsLabels(now?.spec.selector, labels),
    );
    for (const slice of this.#slicesByService.get(key)) this.#sliceChanged(slice, true);
    this.#schedule();
  }

  /** Slices made by Kubernetes for a selector say nothing new about pods; only hand-written ones do. */
  #sliceChanged(key: string, serviceChanged = false): void {
    this.#markSlice(key);
    const slice = this.#slices.get(key);
    if (slice === undefined) return;
    const service = this.#services.get(serviceOfSlice(slice) ?? '');
    if (!serviceChanged && service !== undefined && hasSelector(service)) return;
    for (const pod of podsOfSlice(slice)) this.#markPod(pod);
  }

  #unlinkSlice(key: string): void {
    const old = this.#slices.get(key);
    if (old === undefined) return;
    this.#sliceChanged(key);
    this.#slices.delete(key);
    const service = serviceOfSlice(old);
    if (service !== undefined) this.#slicesByService.remove(service, key);
    for (const pod of podsOfSlice(old)) this.#slicesByPod.remove(pod, key);
  }

  #nodeChanged(name: string, now: Node | undefined): void {
    const before = localityText(this.#nodes.get(name));
    if (now === undefined) this.#nodes.delete(name);
    else this.#nodes.set(name, now);
    // Nodes report in every few seconds; only their place matters here.
    if (before !== localityText(now)) for (const pod of this.#podsByNode.get(name)) this.#markPod(pod);
  }

  #namespaceChanged(name: string, now: Namespace | undefined): void {
    const before = this.#namespaces.get(name);
    if (now === undefined) this.#namespaces.delete(name);
    else this.#namespaces.set(name, now);
    if (distributionOf(before) !== distributionOf(now)) {
      for (const service of this.#servicesByNamespace.get(name)) this.#dirtyServices.add(service);
      this.#schedule();
    }
    if (name === this.#systemNamespace) this.#setNetwork(now === undefined ? '' : networkOf(now));
  }

  #setNetwork(network: string): void {
    if (network === this.#mesh.network) return;
    this.#mesh = { ...this.#mesh, network };
    for (const key of this.#pods.keys()) this.#dirtyPods.add(key);
    for (const key of this.#services.keys()) this.#dirtyServices.add(key);
    for (const key of this.#slices.keys()) this.#dirtySlices.add(key);
    this.#schedule();
  }

  #markPod(key: string): void {
    this.#dirtyPods.add(key);
    this.#schedule();
  }

  #markSlice(key: string): void {
    this.#dirtySlices.add(key);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#deps.schedule(() => this.flush());
  }
}

const inMesh = (service: KubeService): boolean => service.spec.type !== 'ExternalName';
const hasSelector = (service: KubeService): boolean => Object.keys(service.spec.selector ?? {}).length > 0;
const networkOf = (namespace: Namespace): string => labelsOf(namespace)[LABEL.network] ?? '';
const distributionOf = (namespace: Namespace | undefined): string | undefined =>
  namespace === undefined ? undefined : annotationsOf(namespace)[ANNOTATION.trafficDistribution];

function localityText(node: Node | undefined): string {
  if (node === undefined) return '';
  const labels = labelsOf(node);
  return JSON.stringify([labels[LABEL.region], labels[LABEL.zone], labels[LABEL.subzone]]);
}
