// What is the same for every workload and service of one cluster (control-plane.md §2.3).

import type { ServiceEntryVisibility } from './service-visibility.ts';

export interface MeshFacts {
  readonly clusterId: string;
  /** Usually empty: one flat network. */
  readonly network: string;
  readonly trustDomain: string;
  /** `cluster.local` in host names, which is not the trust domain. */
  readonly domainSuffix: string;
  /** Whether addresses that a control plane wrote into ServiceEntries are used. */
  readonly allocatedVips: boolean;
  /** Whether workloads with a waypoint let only it in. */
  readonly onlyByWaypoint: boolean;
  readonly serviceEntryVisibility: ServiceEntryVisibility;
}
