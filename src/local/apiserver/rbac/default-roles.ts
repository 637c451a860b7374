// The roles every cluster has: for people (cluster-admin, admin, edit, view), for everybody (discovery), and for the
// cluster's own components. Missing rules are put back at each start, unless the object's annotation says otherwise.

import type { ClusterRole, PolicyRule, RbacSubject, RoleBinding } from '#k8s/rbac.ts';
import { aggregatedRules, RBAC_GROUP } from '#k8s/rbac.ts';

const READ = ['get', 'list', 'watch'];
const WRITE = ['create', 'delete', 'deletecollection', 'patch', 'update'];
const AUTHENTICATION = 'authentication.k8s.io';
const AUTHORIZATION = 'authorization.k8s.io';
const COORDINATION = 'coordination.k8s.io';
const DISCOVERY = 'discovery.k8s.io';
const NETWORKING = 'networking.k8s.io';
const STORAGE = 'storage.k8s.io';

const on = (group: string, resources: readonly string[], verbs: readonly string[]): PolicyRule => ({
  apiGroups: [group],
  resources: [...resources],
  verbs: [...verbs],
});
const urls = (verbs: readonly string[], ...paths: string[]): PolicyRule => ({
  nonResourceURLs: paths,
  verbs: [...verbs],
});

const LABELS = { 'kubernetes.io/bootstrapping': 'rbac-defaults' };
const ANNOTATIONS = { 'rbac.authorization.kubernetes.io/autoupdate': 'true' };
const AGGREGATE = `${RBAC_GROUP}/aggregate-to-`;

const role = (
  name: string,
  rules: PolicyRule[],
  aggregatedTo?: 'admin' | 'edit' | 'view',
  aggregates?: 'admin' | 'edit' | 'view',
): ClusterRole => ({
  apiVersion: `${RBAC_GROUP}/v1`,
  kind: 'ClusterRole',
  metadata: {
    name,
    labels: { ...LABELS, ...(aggregatedTo === undefined ? {} : { [AGGREGATE + aggregatedTo]: 'true' }) },
    annotations: { ...ANNOTATIONS },
  },
  rules,
  ...(aggregates === undefined
    ? {}
    : {
        aggregationRule: {
          clusterRoleSelectors: [{ matchLabels: { [AGGREGATE + aggregates]: 'true' } }],
        },
      }),
});

/** Every event of a component, old form and new. */
const EVENTS = [
  on('', ['events'], ['create', 'patch', 'update']),
  on('events.k8s.io', ['events'], ['create', 'patch', 'update']),
];

const APPS = ['daemonsets', 'deployments', 'deployments/scale', 'replicasets', 'replicasets/scale'];
const STATEFUL = ['statefulsets', 'statefulsets/scale'];
const BATCH = ['cronjobs', 'jobs'];
const CORE_WORK = ['configmaps', 'endpoints', 'persistentvolumeclaims', 'services', 'serviceaccounts'];

const VIEWED: PolicyRule[] = [
  on('', [...CORE_WORK, 'pods', 'services/status', 'persistentvolumeclaims/status'], READ),
  on('', ['events', 'limitranges', 'namespaces', 'namespaces/status', 'resourcequotas'], READ),
  on('', ['bindings', 'pods/log', 'pods/status', 'resourcequotas/status'], READ),
  on('discovery.k8s.io', ['endpointslices'], READ),
  on('apps', [...APPS, ...STATEFUL, 'controllerrevisions'], READ),
  on('apps', ['daemonsets/status', 'deployments/status', 'replicasets/status', 'statefulsets/status'], READ),
  on('autoscaling', ['horizontalpodautoscalers', 'horizontalpodautoscalers/status'], READ),
  on('batch', [...BATCH, 'cronjobs/status', 'jobs/status'], READ),
  on('policy', ['poddisruptionbudgets', 'poddisruptionbudgets/status'], READ),
  on(NETWORKING, ['ingresses', 'ingresses/status', 'networkpolicies'], READ),
];

const EDITED: PolicyRule[] = [
  on('', ['pods/attach', 'pods/exec', 'pods/portforward', 'pods/proxy', 'services/proxy', 'secrets'], READ),
  on('', ['serviceaccounts'], ['impersonate']),
  on('', ['pods', 'pods/attach', 'pods/exec', 'pods/portforward', 'pods/proxy', 'services/proxy'], WRITE),
  on('', ['pods/eviction', 'serviceaccounts/token'], ['create']),
  on('', [...CORE_WORK, 'events', 'secrets'], WRITE),
  on('apps', [...APPS, ...STATEFUL, 'deployments/rollback'], WRITE),
  on('autoscaling', ['horizontalpodautoscalers'], WRITE),
  on('batch', BATCH, WRITE),
  on('policy', ['poddisruptionbudgets'], WRITE),
  on(NETWORKING, ['ingresses', 'networkpolicies'], WRITE),
  on(COORDINATION, ['leases'], [...READ, ...WRITE]),
];

const ADMINISTERED: PolicyRule[] = [
  on(AUTHORIZATION, ['localsubjectaccessreviews'], ['create']),
  on(RBAC_GROUP, ['rolebindings', 'roles'], [...READ, ...WRITE]),
];

/** What a kubelet gets by the node authorizer, written down for readers; no binding gives it to anybody. */
const NODE: PolicyRule[] = [
  on('', ['nodes'], [...READ, 'create', 'patch', 'update']),
  on('', ['nodes/status', 'pods/status'], ['patch', 'update']),
  on('', ['pods'], [...READ, 'delete']),
  on('', ['pods/eviction', 'serviceaccounts/token'], ['create']),
  on('', ['configmaps', 'secrets', 'services'], READ),
  on('', ['serviceaccounts', 'persistentvolumeclaims', 'persistentvolumes'], ['get']),
  on(COORDINATION, ['leases'], ['create', 'delete', 'get', 'patch', 'update']),
  ...EVENTS,
];

/** One identity for all controllers, as a controller manager without an account per controller has it. */
const CONTROLLER_MANAGER: PolicyRule[] = [
  // The garbage collector and the end of a namespace concern every kind, also those nobody knows yet.
  on('*', ['*'], [...READ, 'delete', 'deletecollection', 'patch', 'update']),
  on('', ['configmaps', 'endpoints', 'pods', 'serviceaccounts'], ['create']),
  on('', ['persistentvolumeclaims', 'persistentvolumes'], ['create']),
  on('', ['pods/eviction', 'serviceaccounts/token'], ['create']),
  on('apps', ['controllerrevisions', 'replicasets'], ['create']),
  on('batch', ['jobs'], ['create']),
  on(COORDINATION, ['leases'], ['create']),
  on(DISCOVERY, ['endpointslices'], ['create']),
  on(AUTHENTICATION, ['tokenreviews'], ['create']),
  on(AUTHORIZATION, ['subjectaccessreviews'], ['create']),
  // Aggregated roles hold what their parts hold, which their writer need not hold himself.
  on(RBAC_GROUP, ['clusterroles'], ['escalate']),
  urls(['get'], '*'),
  ...EVENTS,
];

const SCHEDULER: PolicyRule[] = [
  on('', ['nodes', 'namespaces', 'services', 'replicationcontrollers'], READ),
  on('', ['pods'], [...READ, 'delete', 'patch', 'update']),
  on('', ['bindings', 'pods/binding'], ['create']),
  on('', ['pods/status'], ['patch', 'update']),
  on('', ['persistentvolumeclaims', 'persistentvolumes'], [...READ, 'patch', 'update']),
  on(STORAGE, ['storageclasses'], READ),
  on('apps', ['replicasets', 'statefulsets'], READ),
  on('policy', ['poddisruptionbudgets'], READ),
  on(COORDINATION, ['leases'], ['create', 'get', 'update', 'patch']),
  ...EVENTS,
];

const ROLES: readonly ClusterRole[] = [
  role('cluster-admin', [on('*', ['*'], ['*']), urls(['*'], '*')]),
  role('admin', [], undefined, 'admin'),
  role('edit', [], 'admin', 'edit'),
  role('view', [], 'edit', 'view'),
  role('system:aggregate-to-admin', ADMINISTERED, 'admin'),
  role('system:aggregate-to-edit', EDITED, 'edit'),
  role('system:aggregate-to-view', VIEWED, 'view'),
  role('system:basic-user', [
    on(AUTHORIZATION, ['selfsubjectaccessreviews', 'selfsubjectrulesreviews'], ['create']),
    on(AUTHENTICATION, ['selfsubjectreviews'], ['create']),
  ]),
  role('system:discovery', [
    urls(['get'], '/', '/api', '/api/*', '/apis', '/apis/*', '/healthz', '/livez', '/openapi', '/openapi/*'),
    urls(['get'], '/readyz', '/version', '/version/'),
  ]),
  role('system:public-info-viewer', [
    urls(['get'], '/healthz', '/livez', '/readyz', '/version', '/version/'),
  ]),
  role('system:service-account-issuer-discovery', [
    urls(['get'], '/.well-known/openid-configuration', '/.well-known/openid-configuration/'),
    urls(['get'], '/openid/v1/jwks', '/openid/v1/jwks/'),
  ]),
  role('system:monitoring', [urls(['get'], '/metrics', '/debug/access', '/healthz', '/livez', '/readyz')]),
  role('system:auth-delegator', [
    on(AUTHENTICATION, ['tokenreviews'], ['create']),
    on(AUTHORIZATION, ['subjectaccessreviews'], ['create']),
  ]),
  role('system:node', NODE),
  role('system:node-proxier', [
    on('', ['nodes', 'services', 'endpoints'], ['list', 'watch']),
    on('', ['nodes'], ['get']),
    on(DISCOVERY, ['endpointslices'], ['list', 'watch']),
    on(NETWORKING, ['networkpolicies'], ['list', 'watch']),
    on('', ['namespaces', 'pods'], ['list', 'watch']),
    // The addresses of LoadBalancer services.
    on('', ['services/status'], ['patch', 'update']),
    ...EVENTS,
  ]),
  role('system:kube-scheduler', SCHEDULER),
  role('system:kube-controller-manager', CONTROLLER_MANAGER),
  // The process that holds all emulated nodes: what their kubelets share, the Service of the cluster's DNS, the Nodes it
  // makes and gives their addresses, and what it takes back of the statuses of a machine that is gone.
  role('culvert:machine', [
    on('', ['configmaps', 'secrets', 'nodes', 'pods'], READ),
    on('', ['persistentvolumeclaims', 'persistentvolumes'], READ),
    on('', ['services'], ['create']),
    on('', ['nodes'], ['create', 'patch']),
    on('', ['nodes/status', 'pods/status'], ['patch']),
    ...EVENTS,
  ]),
];

/** Rules of the aggregated ones are filled in, from the innermost outwards. */
export function defaultRoles(): ClusterRole[] {
  const roles = ROLES.map((each) => structuredClone(each));
  for (const name of ['view', 'edit', 'admin']) {
    const aggregate = roles.find(({ metadata }) => metadata.name === name)!;
    aggregate.rules = aggregatedRules(aggregate, roles) ?? [];
  }
  return roles;
}

const user = (name: string): RbacSubject => ({ kind: 'User', apiGroup: RBAC_GROUP, name });
const group = (name: string): RbacSubject => ({ kind: 'Group', apiGroup: RBAC_GROUP, name });

const BINDINGS: readonly (readonly [role: string, ...RbacSubject[]])[] = [
  ['cluster-admin', group('system:masters')],
  ['system:basic-user', group('system:authenticated')],
  ['system:discovery', group('system:authenticated')],
  ['system:public-info-viewer', group('system:authenticated'), group('system:unauthenticated')],
  ['system:service-account-issuer-discovery', group('system:serviceaccounts')],
  ['system:monitoring', group('system:monitoring')],
  ['system:node-proxier', user('system:kube-proxy')],
  ['system:kube-scheduler', user('system:kube-scheduler')],
  ['system:kube-controller-manager', user('system:kube-controller-manager')],
  ['culvert:machine', user('culvert:machine')],
];

/** Each of the name of its role. */
export const defaultBindings = (): RoleBinding[] =>
  BINDINGS.map(([name, ...subjects]) => ({
    apiVersion: `${RBAC_GROUP}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name, labels: { ...LABELS }, annotations: { ...ANNOTATIONS } },
    subjects: structuredClone(subjects),
    roleRef: { apiGroup: RBAC_GROUP, kind: 'ClusterRole', name },
  }));
