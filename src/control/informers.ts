// Everything the control plane watches, in one place: started together, closed together, synced together
// (control-plane.md §1.1).

import type { Scope } from '#base/scope.ts';
import type { Informer, InformerDeps, StartInformer } from '#k8s/informer.ts';
import {
  GATEWAY_CLASSES,
  GATEWAYS,
  type Gateway,
  type GatewayClass,
  SERVICE_ENTRIES,
  type ServiceEntry,
  WORKLOAD_ENTRIES,
  type WorkloadEntry,
} from '#k8s/mesh-objects.ts';
import {
  AUTHORIZATION_POLICIES,
  type AuthorizationPolicy,
  CONFIG_MAPS,
  type ConfigMap,
  ENDPOINT_SLICES,
  type EndpointSlice,
  NAMESPACES,
  type Namespace,
  NODES,
  type Node,
  PEER_AUTHENTICATIONS,
  type PeerAuthentication,
  PODS,
  type Pod,
  SERVICES,
  type Service,
} from '#k8s/objects.ts';
import { CRL_CONFIG_MAP, ROOT_CONFIG_MAP } from './ca/config-map-distributor.ts';
import { keptOfNode, keptOfPod, withoutBallast } from './kept-fields.ts';
import { startWhenDefined } from './optional-informer.ts';

export interface InformersOptions {
  readonly systemNamespace: string;
}

/** In the system namespace; key `mesh` is the mesh configuration. */
const MESH_CONFIG_MAP = 'istio';

export interface Informers {
  readonly namespaces: Informer<Namespace>;
  readonly nodes: Informer<Node>;
  readonly pods: Informer<Pod>;
  readonly services: Informer<Service>;
  readonly slices: Informer<EndpointSlice>;
  readonly serviceEntries: Informer<ServiceEntry>;
  readonly workloadEntries: Informer<WorkloadEntry>;
  /** Of the Gateway API, which a cluster may not have. */
  readonly gateways: Informer<Gateway>;
  readonly gatewayClasses: Informer<GatewayClass>;
  readonly authorizationPolicies: Informer<AuthorizationPolicy>;
  readonly peerAuthentications: Informer<PeerAuthentication>;
  /** The one with the mesh configuration. */
  readonly meshConfigs: Informer<ConfigMap>;
  /** Only the distributed roots. */
  readonly rootConfigMaps: Informer<ConfigMap>;
  /** Only the distributed revocation lists. */
  readonly crlConfigMaps: Informer<ConfigMap>;
}

export function startInformers(
  start: StartInformer,
  deps: InformerDeps,
  options: InformersOptions,
  scope: Scope,
): Informers {
  const informers: Informers = {
    namespaces: start(deps, NAMESPACES, { keep: withoutBallast }),
    nodes: start(deps, NODES, { keep: keptOfNode }),
    pods: start(deps, PODS, { keep: keptOfPod }),
    services: start(deps, SERVICES, { keep: withoutBallast }),
    slices: start(deps, ENDPOINT_SLICES, { keep: withoutBallast }),
    serviceEntries: start(deps, SERVICE_ENTRIES, { keep: withoutBallast }),
    workloadEntries: start(deps, WORKLOAD_ENTRIES, { keep: withoutBallast }),
    gateways: startWhenDefined(start, deps, GATEWAYS),
    gatewayClasses: startWhenDefined(start, deps, GATEWAY_CLASSES),
    authorizationPolicies: start(deps, AUTHORIZATION_POLICIES, { keep: withoutBallast }),
    peerAuthentications: start(deps, PEER_AUTHENTICATIONS, { keep: withoutBallast }),
    meshConfigs: start(deps, CONFIG_MAPS, {
      namespace: options.systemNamespace,
      fieldSelector: `metadata.name=${MESH_CONFIG_MAP}`,
    }),
    rootConfigMaps: start(deps, CONFIG_MAPS, { fieldSelector: `metadata.name=${ROOT_CONFIG_MAP.name}` }),
    crlConfigMaps: start(deps, CONFIG_MAPS, { fieldSelector: `metadata.name=${CRL_CONFIG_MAP.name}` }),
  };
  for (const informer of Object.values(informers)) scope.onClose(() => informer.close());
  return informers;
}

export async function allSynced(informers: Informers): Promise<void> {
  await Promise.all(Object.values(informers).map((informer: Informer<never>) => informer.synced));
}

/** Kinds whose first list has not arrived: what readiness waits for. */
export function notSynced(informers: Informers): string[] {
  return Object.entries(informers)
    .filter(([, informer]: [string, Informer<never>]) => !informer.hasSynced)
    .map(([name]) => name);
}
