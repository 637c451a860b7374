// The table of built-in kinds. Custom resources join at run time (crd.ts).

import {
  CONFIG_MAP_COLUMNS,
  CREATED_AT_COLUMNS,
  DAEMON_SET_COLUMNS,
  DEFAULT_COLUMNS,
  DEPLOYMENT_COLUMNS,
  ENDPOINT_SLICE_COLUMNS,
  ENDPOINTS_COLUMNS,
  EVENT_COLUMNS,
  LEASE_COLUMNS,
  NAMESPACE_COLUMNS,
  NETWORK_POLICY_COLUMNS,
  NODE_COLUMNS,
  REPLICA_SET_COLUMNS,
  ROLE_BINDING_COLUMNS,
  SECRET_COLUMNS,
  SERVICE_COLUMNS,
} from './columns.ts';
import { INGRESS_CLASS_COLUMNS, INGRESS_COLUMNS, WEBHOOK_CONFIGURATION_COLUMNS } from './columns-network.ts';
import { POD_COLUMNS } from './columns-pod.ts';
import { CLAIM_COLUMNS, STORAGE_CLASS_COLUMNS, VOLUME_COLUMNS } from './columns-storage.ts';
import {
  CONTROLLER_REVISION_COLUMNS,
  DISRUPTION_BUDGET_COLUMNS,
  STATEFUL_SET_COLUMNS,
} from './columns-workload.ts';
import { crdStrategy } from './crd-strategy.ts';
import { ALL_VERBS, type Column, type Kind, type ScalePaths, type Strategy, type Verb } from './kind.ts';
import { resourceKey } from './store.ts';
import { webhookConfigurationStrategy } from './strategy-admission.ts';
import { disruptionBudgetStrategy } from './strategy-disruption.ts';
import { ingressClassStrategy, ingressStrategy } from './strategy-ingress.ts';
import {
  endpointSliceStrategy,
  endpointsStrategy,
  namespaceStrategy,
  nodeStrategy,
  PLAIN,
  secretStrategy,
} from './strategy-misc.ts';
import { networkPolicyStrategy } from './strategy-network-policy.ts';
import { podStrategy } from './strategy-pod.ts';
import { bindingStrategy, roleStrategy } from './strategy-rbac.ts';
import { serviceStrategy } from './strategy-service.ts';
import { claimStrategy, storageClassStrategy, volumeStrategy } from './strategy-storage.ts';
import {
  controllerRevisionStrategy,
  daemonSetStrategy,
  deploymentStrategy,
  replicaSetStrategy,
  statefulSetStrategy,
} from './strategy-workload.ts';

interface Row {
  readonly kind: string;
  readonly plural: string;
  readonly namespaced?: boolean;
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly status?: boolean;
  readonly scale?: ScalePaths;
  readonly extra?: Kind['extra'];
  readonly columns?: readonly Column[];
  readonly strategy?: Strategy;
}

const REPLICAS: ScalePaths = {
  specReplicas: '.spec.replicas',
  statusReplicas: '.status.replicas',
  labelSelector: '.spec.selector',
};
const one = (name: string, kind: string, ...verbs: Verb[]): Kind['extra'][number] => ({ name, kind, verbs });

const CORE: readonly Row[] = [
  {
    kind: 'Namespace',
    plural: 'namespaces',
    namespaced: false,
    shortNames: ['ns'],
    status: true,
    extra: [one('finalize', 'Namespace', 'update')],
    columns: NAMESPACE_COLUMNS,
    strategy: namespaceStrategy,
  },
  {
    kind: 'Node',
    plural: 'nodes',
    namespaced: false,
    shortNames: ['no'],
    status: true,
    columns: NODE_COLUMNS,
    strategy: nodeStrategy,
  },
  {
    kind: 'Pod',
    plural: 'pods',
    shortNames: ['po'],
    categories: ['all'],
    status: true,
    extra: [
      one('log', 'Pod', 'get'),
      one('binding', 'Binding', 'create'),
      one('exec', 'PodExecOptions', 'create', 'get'),
      one('attach', 'PodAttachOptions', 'create', 'get'),
      one('portforward', 'PodPortForwardOptions', 'create', 'get'),
      one('eviction', 'Eviction', 'create'),
    ],
    columns: POD_COLUMNS,
    strategy: podStrategy,
  },
  {
    kind: 'Service',
    plural: 'services',
    shortNames: ['svc'],
    categories: ['all'],
    status: true,
    columns: SERVICE_COLUMNS,
    strategy: serviceStrategy,
  },
  {
    kind: 'ServiceAccount',
    plural: 'serviceaccounts',
    shortNames: ['sa'],
    extra: [one('token', 'TokenRequest', 'create')],
  },
  {
    kind: 'ConfigMap',
    plural: 'configmaps',
    shortNames: ['cm'],
    columns: CONFIG_MAP_COLUMNS,
  },
  {
    kind: 'Secret',
    plural: 'secrets',
    columns: SECRET_COLUMNS,
    strategy: secretStrategy,
  },
  { kind: 'Event', plural: 'events', shortNames: ['ev'], columns: EVENT_COLUMNS },
  {
    kind: 'Endpoints',
    plural: 'endpoints',
    shortNames: ['ep'],
    columns: ENDPOINTS_COLUMNS,
    strategy: endpointsStrategy,
  },
  {
    kind: 'PersistentVolumeClaim',
    plural: 'persistentvolumeclaims',
    shortNames: ['pvc'],
    status: true,
    columns: CLAIM_COLUMNS,
    strategy: claimStrategy,
  },
  {
    kind: 'PersistentVolume',
    plural: 'persistentvolumes',
    namespaced: false,
    shortNames: ['pv'],
    status: true,
    columns: VOLUME_COLUMNS,
    strategy: volumeStrategy,
  },
];

const APPS: readonly Row[] = [
  {
    kind: 'Deployment',
    plural: 'deployments',
    shortNames: ['deploy'],
    categories: ['all'],
    status: true,
    scale: REPLICAS,
    columns: DEPLOYMENT_COLUMNS,
    strategy: deploymentStrategy,
  },
  {
    kind: 'ReplicaSet',
    plural: 'replicasets',
    shortNames: ['rs'],
    categories: ['all'],
    status: true,
    scale: REPLICAS,
    columns: REPLICA_SET_COLUMNS,
    strategy: replicaSetStrategy,
  },
  {
    kind: 'DaemonSet',
    plural: 'daemonsets',
    shortNames: ['ds'],
    categories: ['all'],
    status: true,
    columns: DAEMON_SET_COLUMNS,
    strategy: daemonSetStrategy,
  },
  {
    kind: 'StatefulSet',
    plural: 'statefulsets',
    shortNames: ['sts'],
    categories: ['all'],
    status: true,
    scale: REPLICAS,
    columns: STATEFUL_SET_COLUMNS,
    strategy: statefulSetStrategy,
  },
  {
    kind: 'ControllerRevision',
    plural: 'controllerrevisions',
    columns: CONTROLLER_REVISION_COLUMNS,
    strategy: controllerRevisionStrategy,
  },
];

const POLICY: readonly Row[] = [
  {
    kind: 'PodDisruptionBudget',
    plural: 'poddisruptionbudgets',
    shortNames: ['pdb'],
    status: true,
    columns: DISRUPTION_BUDGET_COLUMNS,
    strategy: disruptionBudgetStrategy,
  },
];

const RBAC: readonly Row[] = [
  { kind: 'Role', plural: 'roles', columns: CREATED_AT_COLUMNS, strategy: roleStrategy },
  {
    kind: 'RoleBinding',
    plural: 'rolebindings',
    columns: ROLE_BINDING_COLUMNS,
    strategy: bindingStrategy,
  },
  {
    kind: 'ClusterRole',
    plural: 'clusterroles',
    namespaced: false,
    columns: CREATED_AT_COLUMNS,
    strategy: roleStrategy,
  },
  {
    kind: 'ClusterRoleBinding',
    plural: 'clusterrolebindings',
    namespaced: false,
    columns: ROLE_BINDING_COLUMNS,
    strategy: bindingStrategy,
  },
];

const GROUPS: readonly (readonly [group: string, version: string, rows: readonly Row[]])[] = [
  ['', 'v1', CORE],
  ['apps', 'v1', APPS],
  ['policy', 'v1', POLICY],
  [
    'discovery.k8s.io',
    'v1',
    [
      {
        kind: 'EndpointSlice',
        plural: 'endpointslices',
        columns: ENDPOINT_SLICE_COLUMNS,
        strategy: endpointSliceStrategy,
      },
    ],
  ],
  [
    'networking.k8s.io',
    'v1',
    [
      {
        kind: 'NetworkPolicy',
        plural: 'networkpolicies',
        shortNames: ['netpol'],
        columns: NETWORK_POLICY_COLUMNS,
        strategy: networkPolicyStrategy,
      },
      {
        kind: 'Ingress',
        plural: 'ingresses',
        shortNames: ['ing'],
        status: true,
        columns: INGRESS_COLUMNS,
        strategy: ingressStrategy,
      },
      {
        kind: 'IngressClass',
        plural: 'ingressclasses',
        namespaced: false,
        columns: INGRESS_CLASS_COLUMNS,
        strategy: ingressClassStrategy,
      },
    ],
  ],
  [
    'admissionregistration.k8s.io',
    'v1',
    ['Mutating', 'Validating'].map((kind) => ({
      kind: `${kind}WebhookConfiguration`,
      plural: `${kind.toLowerCase()}webhookconfigurations`,
      namespaced: false,
      categories: ['api-extensions'],
      columns: WEBHOOK_CONFIGURATION_COLUMNS,
      strategy: webhookConfigurationStrategy,
    })),
  ],
  [
    'storage.k8s.io',
    'v1',
    [
      {
        kind: 'StorageClass',
        plural: 'storageclasses',
        namespaced: false,
        shortNames: ['sc'],
        columns: STORAGE_CLASS_COLUMNS,
        strategy: storageClassStrategy,
      },
    ],
  ],
  ['coordination.k8s.io', 'v1', [{ kind: 'Lease', plural: 'leases', columns: LEASE_COLUMNS }]],
  ['rbac.authorization.k8s.io', 'v1', RBAC],
  [
    'apiextensions.k8s.io',
    'v1',
    [
      {
        kind: 'CustomResourceDefinition',
        plural: 'customresourcedefinitions',
        namespaced: false,
        shortNames: ['crd', 'crds'],
        categories: ['api-extensions'],
        status: true,
        columns: CREATED_AT_COLUMNS,
        strategy: crdStrategy,
      },
    ],
  ],
];

export const BUILT_IN_KINDS: readonly Kind[] = GROUPS.flatMap(([group, version, rows]) =>
  rows.map((row) => kindOf(group, version, row)),
);

/** Kinds that are questions: answered at once, never stored (auth.ts, tokens.ts). */
export interface VirtualKind {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

export const VIRTUAL_KINDS: readonly VirtualKind[] = [
  ask('authentication.k8s.io', 'tokenreviews', 'TokenReview'),
  ask('authentication.k8s.io', 'selfsubjectreviews', 'SelfSubjectReview'),
  ask('authorization.k8s.io', 'subjectaccessreviews', 'SubjectAccessReview'),
  ask('authorization.k8s.io', 'selfsubjectaccessreviews', 'SelfSubjectAccessReview'),
  ask('authorization.k8s.io', 'localsubjectaccessreviews', 'LocalSubjectAccessReview', true),
  ask('authorization.k8s.io', 'selfsubjectrulesreviews', 'SelfSubjectRulesReview'),
];

function ask(group: string, plural: string, kind: string, namespaced = false): VirtualKind {
  return { group, version: 'v1', plural, kind, namespaced };
}

function kindOf(group: string, version: string, row: Row): Kind {
  return {
    group,
    version,
    apiVersion: group === '' ? version : `${group}/${version}`,
    storageApiVersion: group === '' ? version : `${group}/${version}`,
    plural: row.plural,
    singular: row.kind.toLowerCase(),
    kind: row.kind,
    listKind: `${row.kind}List`,
    namespaced: row.namespaced ?? true,
    shortNames: row.shortNames ?? [],
    categories: row.categories ?? [],
    verbs: ALL_VERBS,
    status: row.status ?? false,
    scale: row.scale,
    extra: row.extra ?? [],
    resource: resourceKey(group, row.plural),
    columns: row.columns ?? DEFAULT_COLUMNS,
    selectableFields: [],
    strategy: row.strategy ?? PLAIN,
    schema: undefined,
    alwaysStrict: false,
  };
}
