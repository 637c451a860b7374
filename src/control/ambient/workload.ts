// What workloads of every origin have in common (control-plane.md §2.4–§2.8): names by label, the tunnel, defaults.

import type { Locality, Workload } from '#model/workload.ts';
import { ANNOTATION, LABEL, type Labels } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';

const NOWHERE: Locality = Object.freeze({ region: '', zone: '', subzone: '' });

/** A workload of which nothing is known but the mesh it is in. */
export function plainWorkload(mesh: MeshFacts): Omit<Workload, 'uid' | 'name' | 'namespace'> {
  return {
    ips: [],
    hostname: '',
    network: mesh.network,
    protocol: 'TCP',
    nativeTunnel: false,
    networkMode: 'Standard',
    trustDomain: mesh.trustDomain,
    serviceAccount: '',
    waypoint: undefined,
    networkGateway: undefined,
    node: '',
    workloadName: '',
    workloadType: 'deployment',
    canonicalName: '',
    canonicalRevision: '',
    clusterId: mesh.clusterId,
    applicationTunnel: undefined,
    authorizationPolicies: [],
    status: 'Healthy',
    locality: NOWHERE,
    capacity: 1,
    services: new Map(),
  };
}

export function canonicalNames(
  labels: Labels,
  workloadName: string,
): Pick<Workload, 'canonicalName' | 'canonicalRevision'> {
  return {
    canonicalName:
      labels[LABEL.canonicalName] ?? labels['app.kubernetes.io/name'] ?? labels.app ?? workloadName,
    canonicalRevision:
      labels[LABEL.canonicalRevision] ?? labels['app.kubernetes.io/version'] ?? labels.version ?? 'latest',
  };
}

/** The annotation is written when the rules stand; the label says that the workload ends HBONE itself. */
export function tunnelOf(labels: Labels, annotations: Labels): Pick<Workload, 'protocol' | 'nativeTunnel'> {
  const nativeTunnel = (labels[LABEL.tunnel] ?? '').split(',').includes('http');
  const redirected = annotations[ANNOTATION.redirection] === 'enabled';
  return { protocol: redirected || nativeTunnel ? 'HBONE' : 'TCP', nativeTunnel };
}
