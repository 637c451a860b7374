// The objects that the index knows, and what is computed of them for others to look up. `look` gives a computation its
// view and remembers what it looked at.

import type { Gateway, GatewayClass, ServiceEntry, WorkloadEntry } from '#k8s/mesh-objects.ts';
import type { EndpointSlice, Service as KubeService, Namespace, Node, Pod } from '#k8s/objects.ts';
import type { GatewayRef } from '#model/workload.ts';
import { GroupIndex } from './group-index.ts';
import { annotationsOf, type Labels, labelsOf } from './labels.ts';
import { Reads } from './reads.ts';
import { SelectorIndex } from './selector-index.ts';
import type { Canonical, ServiceRecord } from './service-record.ts';
import { Store } from './store.ts';
import type { Waypoint } from './waypoint.ts';
import type { WaypointLookup } from './waypoint-binding.ts';

/** The kinds of objects that the index is told of. */
export interface MeshObjects {
  readonly namespace: Namespace;
  readonly node: Node;
  readonly pod: Pod;
  readonly service: KubeService;
  readonly slice: EndpointSlice;
  readonly serviceEntry: ServiceEntry;
  readonly workloadEntry: WorkloadEntry;
  readonly gateway: Gateway;
  readonly gatewayClass: GatewayClass;
}
export type MeshKind = keyof MeshObjects;

export type Owner = ServiceRecord & Canonical;

export class World {
  readonly objects: { readonly [K in MeshKind]: Store<MeshObjects[K]> } = {
    namespace: new Store(),
    node: new Store(),
    pod: new Store(),
    service: new Store(),
    slice: new Store(),
    serviceEntry: new Store(),
    workloadEntry: new Store(),
    gateway: new Store(),
    gatewayClass: new Store(),
  };
  /** By `namespace/name` of the Gateway. */
  readonly waypoints = new Map<string, Waypoint>();
  /** The published services by `namespace/hostname`. */
  readonly owners = new Map<string, Owner>();
  /** By network. */
  readonly networkGateways = new Map<string, GatewayRef>();
  /** Published services by what they select. */
  readonly selectors = new SelectorIndex();
  readonly slicesByService = new GroupIndex();
  /** Slices by the pods that their endpoints name. */
  readonly slicesByPod = new GroupIndex();
  /** Pods by the Gateway that made them. */
  readonly podsOfGateway = new GroupIndex();
  readonly reads = new Reads();

  /** Runs the computation of one unit. */
  look<T>(unit: string, compute: (look: Look) => T): T {
    const look = new Look(this);
    try {
      return compute(look);
    } finally {
      this.reads.record(unit, look.tokens);
    }
  }
}

/** What of the world is named by a token: `TOKEN.node('n1')`. */
export const TOKEN = {
  namespaceLabels: (name: string): string => `labels ${name}`,
  namespaceAnnotations: (name: string): string => `annotations ${name}`,
  node: (name: string): string => `node ${name}`,
  gatewayClass: (name: string): string => `gatewayClass ${name}`,
  waypoint: (key: string): string => `waypoint ${key}`,
  owner: (key: string): string => `owner ${key}`,
  network: (name: string): string => `network ${name}`,
} as const;

export class Look implements WaypointLookup {
  readonly tokens: string[] = [];
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  namespaceLabels(name: string): Labels {
    this.#saw(TOKEN.namespaceLabels(name));
    return labelsOf(this.#world.objects.namespace.get(name));
  }

  namespaceAnnotations(name: string): Labels {
    this.#saw(TOKEN.namespaceAnnotations(name));
    return annotationsOf(this.#world.objects.namespace.get(name));
  }

  node(name: string): Node | undefined {
    this.#saw(TOKEN.node(name));
    return this.#world.objects.node.get(name);
  }

  gatewayClass(name: string): GatewayClass | undefined {
    this.#saw(TOKEN.gatewayClass(name));
    return this.#world.objects.gatewayClass.get(name);
  }

  waypoint(namespace: string, name: string): Waypoint | undefined {
    const key = `${namespace}/${name}`;
    this.#saw(TOKEN.waypoint(key));
    return this.#world.waypoints.get(key);
  }

  /** The published service of `namespace/hostname`. */
  owner(namespace: string, hostname: string): Owner | undefined {
    const key = `${namespace}/${hostname}`;
    this.#saw(TOKEN.owner(key));
    return this.#world.owners.get(key);
  }

  networkGateway(network: string): GatewayRef | undefined {
    this.#saw(TOKEN.network(network));
    return this.#world.networkGateways.get(network);
  }

  #saw(token: string): void {
    if (!this.tokens.includes(token)) this.tokens.push(token);
  }
}
