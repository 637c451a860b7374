// Objects of Istio's networking API and of the Gateway API, as far as the mesh reads them: the fields in use, nothing
// more. Field names and meanings are those APIs' own.

import type { Condition, KubeObject, LabelSelector, Resource } from './objects.ts';

const istio = <T extends KubeObject>(plural: string, kind: string): Resource<T> => ({
  group: 'networking.istio.io',
  version: 'v1',
  plural,
  kind,
  namespaced: true,
});
const gatewayApi = <T extends KubeObject>(
  plural: string,
  kind: string,
  namespaced: boolean,
): Resource<T> => ({
  group: 'gateway.networking.k8s.io',
  version: 'v1',
  plural,
  kind,
  namespaced,
});

export const SERVICE_ENTRIES = istio<ServiceEntry>('serviceentries', 'ServiceEntry');
export const WORKLOAD_ENTRIES = istio<WorkloadEntry>('workloadentries', 'WorkloadEntry');
export const GATEWAYS = gatewayApi<Gateway>('gateways', 'Gateway', true);
export const GATEWAY_CLASSES = gatewayApi<GatewayClass>('gatewayclasses', 'GatewayClass', false);

export const CUSTOM_RESOURCE_DEFINITIONS: Resource<CustomResourceDefinition> = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  plural: 'customresourcedefinitions',
  kind: 'CustomResourceDefinition',
  namespaced: false,
};

export interface CustomResourceDefinition extends KubeObject {
  spec?: { versions?: { name: string; served: boolean }[] };
  status?: { conditions?: Condition[] };
}

/** One endpoint outside Kubernetes: the whole of a WorkloadEntry, or one of a ServiceEntry's `endpoints`. */
export interface EndpointSpec {
  /** An IP address, or a host name to look up. */
  address?: string;
  /** By the name of the service's port. */
  ports?: Record<string, number>;
  labels?: Record<string, string>;
  network?: string;
  /** `region/zone/subzone`. */
  locality?: string;
  weight?: number;
  serviceAccount?: string;
}

export interface WorkloadEntry extends KubeObject {
  spec?: EndpointSpec;
  status?: Record<string, unknown>;
}

export type ServiceEntryResolution = 'NONE' | 'STATIC' | 'DNS' | 'DNS_ROUND_ROBIN' | 'DYNAMIC_DNS';

export interface ServiceEntryAddress {
  value: string;
  host?: string;
}

export interface ServiceEntry extends KubeObject {
  spec?: {
    hosts?: string[];
    addresses?: string[];
    ports?: { number: number; name?: string; protocol?: string; targetPort?: number }[];
    location?: 'MESH_EXTERNAL' | 'MESH_INTERNAL';
    /** NONE when left out. */
    resolution?: ServiceEntryResolution;
    endpoints?: EndpointSpec[];
    workloadSelector?: { labels?: Record<string, string> };
    exportTo?: string[];
    subjectAltNames?: string[];
  };
  status?: {
    /** Allocated by the control plane. */
    addresses?: ServiceEntryAddress[];
    conditions?: Condition[];
    [field: string]: unknown;
  };
}

export interface GatewayListener {
  name?: string;
  port: number;
  protocol: string;
  tls?: { mode?: string };
  allowedRoutes?: {
    namespaces?: { from?: 'All' | 'Same' | 'Selector' | 'None'; selector?: LabelSelector };
  };
}

export interface Gateway extends KubeObject {
  spec?: {
    gatewayClassName?: string;
    listeners?: GatewayListener[];
    addresses?: { type?: string; value: string }[];
  };
  status?: {
    addresses?: { type?: string; value: string }[];
    conditions?: Condition[];
    [field: string]: unknown;
  };
}

export interface GatewayClass extends KubeObject {
  spec?: { controllerName?: string };
}
