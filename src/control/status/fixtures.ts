// For tests: informers whose objects are put in by hand, and the view of them.

import type { Gateway, GatewayClass, ServiceEntry, WorkloadEntry } from '#k8s/mesh-objects.ts';
import type {
  AuthorizationPolicy,
  ConfigMap,
  EndpointSlice,
  KubeObject,
  Namespace,
  Node,
  PeerAuthentication,
  Pod,
  Service,
} from '#k8s/objects.ts';
import { Hand } from '../fixtures-informer.ts';
import type { Informers } from '../informers.ts';
import { DEFAULT_MESH_CONFIG, type MeshConfig } from '../mesh-config.ts';
import { StatusView } from './view.ts';

export class Hands {
  readonly namespaces = new Hand<Namespace>();
  readonly nodes = new Hand<Node>();
  readonly pods = new Hand<Pod>();
  readonly services = new Hand<Service>();
  readonly slices = new Hand<EndpointSlice>();
  readonly serviceEntries = new Hand<ServiceEntry>();
  readonly workloadEntries = new Hand<WorkloadEntry>();
  readonly gateways = new Hand<Gateway>();
  readonly gatewayClasses = new Hand<GatewayClass>();
  readonly authorizationPolicies = new Hand<AuthorizationPolicy>();
  readonly peerAuthentications = new Hand<PeerAuthentication>();
  readonly meshConfigs = new Hand<ConfigMap>();
  readonly rootConfigMaps = new Hand<ConfigMap>();
  readonly crlConfigMaps = new Hand<ConfigMap>();
  config: MeshConfig = DEFAULT_MESH_CONFIG;
  /** Namespaces out of view. */
  readonly hidden = new Set<string>();

  get informers(): Informers {
    return Object.fromEntries(
      Object.entries(this).flatMap(([name, hand]) => (hand instanceof Hand ? [[name, hand.informer]] : [])),
    ) as unknown as Informers;
  }

  view(): StatusView {
    const sees = (namespace: string | undefined): boolean => !this.hidden.has(namespace ?? '');
    return new StatusView({
      informers: this.informers,
      config: () => this.config,
      sees,
      isOurs: (object: KubeObject) =>
        sees(object.metadata.namespace) &&
        ['default', undefined].includes(object.metadata.labels?.['istio.io/rev']),
      rootNamespace: 'istio-system',
    });
  }
}

type Meta = Omit<KubeObject['metadata'], 'name' | 'namespace'>;

/** An object named `namespace/name`. */
export function object<T extends KubeObject>(
  kind: string,
  key: string,
  rest: Omit<T, 'apiVersion' | 'kind' | 'metadata'>,
  metadata: Meta = {},
): T {
  const [namespace, name] = key.includes('/') ? key.split('/') : [undefined, key];
  return {
    apiVersion: 'v1',
    kind,
    metadata: { name, ...(namespace === undefined ? {} : { namespace }), generation: 3, ...metadata },
    ...rest,
  } as unknown as T;
}

/** A waypoint that admits the whole mesh. */
export function waypoint(key: string, handles = 'service', from: 'All' | 'Same' = 'All'): Gateway {
  return object<Gateway>(
    'Gateway',
    key,
    {
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [
          { name: 'mesh', port: 15008, protocol: 'HBONE', allowedRoutes: { namespaces: { from } } },
        ],
      },
      status: { addresses: [{ type: 'IPAddress', value: '10.96.0.99' }] },
    },
    { labels: { 'istio.io/waypoint-for': handles } },
  );
}
