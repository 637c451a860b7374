// What the peers' own installations bring beside their pods, for `culvert up --control …` and `--cni …` (pure): the rights
// their programs use in this cluster, and their mesh configuration. Ours are less (deploy/): they ask for less.

import type { KubeObject } from '#k8s/objects.ts';
import type { PeerProgram } from './peer-settings.ts';

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

const READ = ['get', 'list', 'watch'];
const CHANGE = ['update', 'patch'];
const ALL = [...READ, ...CHANGE, 'create', 'delete'];
const NAMESPACE = 'istio-system';
const RBAC = 'rbac.authorization.k8s.io';

const on = (group: string, resources: readonly string[], verbs: readonly string[]): Rule => ({
  apiGroups: [group],
  resources,
  verbs,
});

const ISTIO_GROUPS = ['security', 'networking', 'telemetry', 'extensions'].map((name) => `${name}.istio.io`);
const ROUTE_KINDS = [
  'gateways',
  'gatewayclasses',
  'httproutes',
  'grpcroutes',
  'tcproutes',
  'tlsroutes',
  'udproutes',
];
const GATEWAY_KINDS = [...ROUTE_KINDS, 'referencegrants', 'backendtlspolicies', 'listenersets'];

const ISTIOD_CLUSTER: readonly Rule[] = [
  on('', ['pods', 'nodes', 'services', 'namespaces', 'endpoints', 'secrets'], READ),
  on('', ['configmaps'], ['create', 'update', ...READ]),
  on('discovery.k8s.io', ['endpointslices'], READ),
  on('apiextensions.k8s.io', ['customresourcedefinitions'], READ),
  on('admissionregistration.k8s.io', ['mutatingwebhookconfigurations'], [...READ, ...CHANGE]),
  on('admissionregistration.k8s.io', ['validatingwebhookconfigurations'], [...READ, 'update']),
  on('networking.k8s.io', ['ingresses', 'ingressclasses'], READ),
  on('networking.k8s.io', ['ingresses/status'], CHANGE),
  on('authentication.k8s.io', ['tokenreviews'], ['create']),
  on('authorization.k8s.io', ['subjectaccessreviews'], ['create']),
  { apiGroups: ISTIO_GROUPS, resources: ['*'], verbs: READ },
  // It says in the status of an object what became of it.
  on('', ['services/status'], CHANGE),
  on('security.istio.io', ['authorizationpolicies/status'], CHANGE),
  on('networking.istio.io', ['serviceentries/status', 'workloadentries/status'], CHANGE),
  on('networking.istio.io', ['workloadentries'], ALL),
  // The Gateway API, where its definitions are applied: istiod makes the waypoints that gateways ask for.
  on('gateway.networking.k8s.io', ['*'], READ),
  on(
    'gateway.networking.k8s.io',
    GATEWAY_KINDS.map((kind) => `${kind}/status`),
    CHANGE,
  ),
  on('gateway.networking.k8s.io', ['gatewayclasses'], [...CHANGE, 'create', 'delete']),
  on('apps', ['deployments'], ALL),
  on('autoscaling', ['horizontalpodautoscalers'], ALL),
  on('policy', ['poddisruptionbudgets'], ALL),
  on('', ['services', 'serviceaccounts'], ALL),
];

/** In its own namespace: the authority's key, leader election, the test of its validation. */
const ISTIOD_NAMESPACE: readonly Rule[] = [
  on('', ['secrets'], [...READ, 'create', 'update', 'delete']),
  on('', ['configmaps'], ['delete']),
  on('coordination.k8s.io', ['leases'], ['get', 'create', ...CHANGE]),
  on('networking.istio.io', ['gateways'], ['create']),
];

const CNI_CLUSTER: readonly Rule[] = [
  on('', ['pods', 'nodes', 'namespaces'], READ),
  on('', ['pods/status'], CHANGE),
  { ...on('apps', ['daemonsets'], ['get']), resourceNames: ['istio-cni-node'] },
];

const MESH = `trustDomain: cluster.local
rootNamespace: ${NAMESPACE}
defaultConfig:
  discoveryAddress: istiod.${NAMESPACE}.svc:15012
`;

/** The objects that join ours when this program is somebody else's. */
export function peerObjects(program: PeerProgram): KubeObject[] {
  switch (program) {
    case 'control':
      return [
        ...granted('ClusterRole', 'peer-istiod', 'istiod', ISTIOD_CLUSTER),
        ...granted('Role', 'peer-istiod', 'istiod', ISTIOD_NAMESPACE),
        meshConfig(),
      ];
    case 'cni':
      return granted('ClusterRole', 'peer-istio-cni', 'istio-cni', CNI_CLUSTER);
    case 'ztunnel':
      return [];
  }
}

function granted(
  kind: 'Role' | 'ClusterRole',
  name: string,
  account: string,
  rules: readonly Rule[],
): KubeObject[] {
  const inNamespace = kind === 'Role';
  const role = { ...object(`${RBAC}/v1`, kind, name, inNamespace), rules };
  const binding = {
    ...object(`${RBAC}/v1`, `${kind}Binding`, name, inNamespace),
    roleRef: { apiGroup: RBAC, kind, name },
    subjects: [{ kind: 'ServiceAccount', name: account, namespace: NAMESPACE }],
  };
  return [role, binding];
}

const meshConfig = (): KubeObject => {
  const map = object('v1', 'ConfigMap', 'istio', true);
  return Object.assign(map, { data: { mesh: MESH, meshNetworks: 'networks: {}\n' } });
};

const object = (apiVersion: string, kind: string, name: string, inNamespace: boolean): KubeObject => ({
  apiVersion,
  kind,
  metadata: { name, ...(inNamespace ? { namespace: NAMESPACE } : {}) },
});
