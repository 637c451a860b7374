// The two kinds of things that the workload subscription carries, and the names under which they are removed.

import type { Service } from './service.ts';
import { type ServiceKey, serviceKey, type Workload, type WorkloadUid } from './workload.ts';

export type Address =
  | { readonly kind: 'workload'; readonly workload: Workload }
  | { readonly kind: 'service'; readonly service: Service };

/** The xDS resource name: a workload's uid, or `namespace/hostname` of a service (ztunnel.md §3.4). */
export function addressName(address: Address): WorkloadUid | ServiceKey {
  return address.kind === 'workload'
    ? address.workload.uid
    : serviceKey(address.service.namespace, address.service.hostname);
}
