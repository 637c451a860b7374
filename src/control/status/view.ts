// What the status of an object is computed from: the objects that are watched, looked up when it is needed. The index
// keeps most of it computed; statuses are written by one replica and seldom, so they keep nothing.

import type { ServiceEntry } from '#k8s/mesh-objects.ts';
import type { KubeObject, LabelSelector, Service } from '#k8s/objects.ts';
import { matchesLabels } from '#k8s/selectors.ts';
import { labelsOfEntry } from '../ambient/endpoint.ts';
import { annotationsOf, type Labels, labelsOf } from '../ambient/labels.ts';
import { visibilityIn } from '../ambient/service-visibility.ts';
import { type Waypoint, waypointOf } from '../ambient/waypoint.ts';
import { bindService, type ServiceBinding, type WaypointLookup } from '../ambient/waypoint-binding.ts';
import type { Informers } from '../informers.ts';
import type { MeshConfig } from '../mesh-config.ts';

export interface StatusViewDeps {
  readonly informers: Pick<
    Informers,
    | 'namespaces'
    | 'pods'
    | 'services'
    | 'serviceEntries'
    | 'workloadEntries'
    | 'gateways'
    | 'gatewayClasses'
    | 'peerAuthentications'
  >;
  readonly config: () => MeshConfig;
  /** Whether the mesh configuration puts the namespace in view. */
  readonly sees: (namespace: string | undefined) => boolean;
  /** In view, and not another revision's. */
  readonly isOurs: (object: KubeObject) => boolean;
  readonly rootNamespace: string;
}

export class StatusView implements WaypointLookup {
  readonly deps: StatusViewDeps;
  /** Labels of all workloads, by namespace; undefined: not looked up since they changed. */
  #workloads: ReadonlyMap<string, readonly Labels[]> | undefined;

  constructor(deps: StatusViewDeps) {
    this.deps = deps;
  }

  get rootNamespace(): string {
    return this.deps.rootNamespace;
  }

  namespaceLabels(name: string): Labels {
    return labelsOf(this.deps.informers.namespaces.get(name));
  }

  namespaceAnnotations(name: string): Labels {
    return annotationsOf(this.deps.informers.namespaces.get(name));
  }

  waypoint(namespace: string, name: string): Waypoint | undefined {
    const { informers, sees } = this.deps;
    const gateway = sees(namespace) ? informers.gateways.get(`${namespace}/${name}`) : undefined;
    if (gateway === undefined) return undefined;
    // Of its network and its accounts no status speaks.
    return waypointOf(gateway, informers.gatewayClasses.get(gateway.spec?.gatewayClassName ?? ''), '', []);
  }

  /** Undefined when there is no such service in the mesh. */
  service(key: string): Service | undefined {
    const object = this.deps.informers.services.get(key);
    return object !== undefined && this.deps.sees(object.metadata.namespace) ? object : undefined;
  }

  serviceEntry(key: string): ServiceEntry | undefined {
    const object = this.deps.informers.serviceEntries.get(key);
    return object !== undefined && this.deps.isOurs(object) ? object : undefined;
  }

  visibilityOf(entry: ServiceEntry): 'Public' | 'Namespace' | 'None' {
    const { serviceEntryVisibility } = this.deps.config();
    return visibilityIn(serviceEntryVisibility, this.namespaceLabels(entry.metadata.namespace ?? ''));
  }

  bindService(object: Service | ServiceEntry, sameNamespaceOnly: boolean): ServiceBinding {
    const target = {
      namespace: object.metadata.namespace ?? '',
      labels: labelsOf(object),
      annotations: annotationsOf(object),
    };
    return bindService(target, this, { sameNamespaceOnly });
  }

  /** Whether the selector of a policy finds any workload of the namespace; in the root namespace, of the mesh. */
  selectsAnybody(namespace: string, selector: LabelSelector): boolean {
    const wanted = selector.matchLabels ?? {};
    const byNamespace = this.#labelsByNamespace();
    const meant =
      namespace === this.rootNamespace
        ? [...byNamespace].flatMap(([name, labels]) => (this.deps.sees(name) ? [labels] : []))
        : [byNamespace.get(namespace) ?? []];
    return meant.some((all) => all.some((labels) => matchesLabels(wanted, labels)));
  }

  /** Workloads came, went or have other labels. */
  selectionChanged(): void {
    this.#workloads = undefined;
  }

  #labelsByNamespace(): ReadonlyMap<string, readonly Labels[]> {
    if (this.#workloads !== undefined) return this.#workloads;
    const byNamespace = new Map<string, Labels[]>();
    const add = ({ metadata: { namespace = '' } }: KubeObject, labels: Labels): void => {
      const known = byNamespace.get(namespace);
      if (known === undefined) byNamespace.set(namespace, [labels]);
      else known.push(labels);
    };
    const { pods, workloadEntries, serviceEntries } = this.deps.informers;
    for (const pod of pods.all()) add(pod, labelsOf(pod));
    for (const entry of workloadEntries.all()) add(entry, labelsOfEntry(entry));
    for (const entry of serviceEntries.all()) add(entry, labelsOf(entry));
    this.#workloads = byNamespace;
    return byNamespace;
  }
}
