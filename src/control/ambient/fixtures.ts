// Objects for the tests of this folder and its neighbours, with only what a test says about them.

import type {
  AuthorizationPolicy,
  EndpointSlice,
  Namespace,
  Node,
  PeerAuthentication,
  Pod,
  Service,
} from '#k8s/objects.ts';

type Labels = Record<string, string>;

export interface PodSketch {
  name: string;
  namespace?: string;
  uid?: string;
  ip?: string;
  ips?: string[];
  node?: string;
  serviceAccount?: string;
  labels?: Labels;
  annotations?: Labels;
  ready?: boolean;
  deleting?: boolean;
  phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
  hostNetwork?: boolean;
  generateName?: string;
  owner?: { kind: string; name: string };
  ports?: { name?: string; containerPort: number; protocol?: string }[];
}

export function pod(sketch: PodSketch): Pod {
  const { name, namespace = 'shop', ready = true } = sketch;
  const ips = sketch.ips ?? (sketch.ip === undefined ? [] : [sketch.ip]);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      uid: sketch.uid ?? `uid-${namespace}-${name}`,
      labels: sketch.labels ?? {},
      annotations: sketch.annotations ?? {},
      ...(sketch.deleting === true ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
      ...(sketch.generateName === undefined ? {} : { generateName: sketch.generateName }),
      ...(sketch.owner === undefined
        ? {}
        : { ownerReferences: [{ apiVersion: 'apps/v1', uid: 'o', controller: true, ...sketch.owner }] }),
    },
    spec: {
      containers: [{ name: 'app', image: 'local/app', ports: sketch.ports ?? [] }],
      serviceAccountName: sketch.serviceAccount ?? 'default',
      ...(sketch.node === undefined ? {} : { nodeName: sketch.node }),
      ...(sketch.hostNetwork === undefined ? {} : { hostNetwork: sketch.hostNetwork }),
    },
    status: {
      phase: sketch.phase ?? 'Running',
      ...(ips[0] === undefined ? {} : { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) }),
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
    },
  };
}

export function service(
  name: string,
  spec: Service['spec'],
  namespace = 'shop',
  annotations: Labels = {},
): Service {
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace, annotations }, spec };
}

export function slice(
  name: string,
  serviceName: string,
  endpoints: EndpointSlice['endpoints'],
  ports: EndpointSlice['ports'] = [],
  namespace = 'shop',
): EndpointSlice {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name, namespace, labels: { 'kubernetes.io/service-name': serviceName } },
    addressType: 'IPv4',
    endpoints,
    ports,
  };
}

export function node(name: string, labels: Labels = {}): Node {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name, labels } };
}

export function namespace(name: string, labels: Labels = {}, annotations: Labels = {}): Namespace {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels, annotations } };
}

export function authorizationPolicy(
  name: string,
  spec: AuthorizationPolicy['spec'],
  namespace = 'shop',
  annotations: Labels = {},
): AuthorizationPolicy {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace, annotations },
    ...(spec === undefined ? {} : { spec }),
  };
}

export function peerAuthentication(
  name: string,
  spec: NonNullable<PeerAuthentication['spec']>,
  namespace = 'shop',
  creationTimestamp = '2026-01-01T00:00:00Z',
): PeerAuthentication {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name, namespace, creationTimestamp },
    spec,
  };
}
