// Model values for tests: complete, plain, and changed where a test says so. Not used by any program.

import type { Policy } from './policy.ts';
import type { Service } from './service.ts';
import type { Workload, WorkloadUid } from './workload.ts';

export function workloadOf(fields: Partial<Workload> = {}): Workload {
  const name = fields.name ?? 'pod';
  const namespace = fields.namespace ?? 'default';
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}` as WorkloadUid,
    name,
    namespace,
    ips: [],
    network: '',
    protocol: 'HBONE',
    networkMode: 'Standard',
    trustDomain: 'cluster.local',
    serviceAccount: 'default',
    waypoint: undefined,
    networkGateway: undefined,
    node: '',
    hostname: '',
    workloadName: name,
    workloadType: 'deployment',
    canonicalName: name,
    canonicalRevision: 'latest',
    clusterId: 'Kubernetes',
    nativeTunnel: false,
    applicationTunnel: undefined,
    authorizationPolicies: [],
    status: 'Healthy',
    locality: { region: '', zone: '', subzone: '' },
    capacity: 1,
    services: new Map(),
    ...fields,
  };
}

export function serviceOf(fields: Partial<Service> = {}): Service {
  const name = fields.name ?? 'service';
  const namespace = fields.namespace ?? 'default';
  return {
    name,
    namespace,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    vips: [],
    cidrVips: [],
    ports: new Map(),
    subjectAltNames: [],
    waypoint: undefined,
    weightedWaypoints: [],
    loadBalancer: undefined,
    ipFamilies: undefined,
    canonical: false,
    visibility: 'Public',
    ...fields,
  };
}

/** `clauses` of one rule; several rules through `rules`. */
export function policyOf(fields: Partial<Policy> = {}): Policy {
  return {
    name: 'policy',
    namespace: 'default',
    scope: 'Namespace',
    action: 'Allow',
    rules: [],
    dryRun: false,
    ...fields,
  };
}
