// The xDS type `Workload`: the same addresses for clients that want workloads only (control-plane.md §4.4). Names, versions,
// aliases and changes are those of the addresses. A service is never sent, but may be asked for: it brings its workloads.

import { ADDRESS_TYPE_URL } from '#proto/workload.ts';
import { WORKLOAD_TYPE_URL, workloadIn } from '#proto/workload-part.ts';
import type { ResourceSource } from '#xds/source.ts';
import type { ResourceSet } from './resource-set.ts';

export function workloadsOf(addresses: ResourceSet): ResourceSource {
  return {
    typeUrl: WORKLOAD_TYPE_URL,
    changesWith: ADDRESS_TYPE_URL,
    list: () => addresses.list(),
    get: (name) => addresses.get(name),
    resolve: (key) => addresses.resolve(key),
    onChange: (handler) => addresses.onChange(handler),
    carry: ({ bytes }) => workloadIn(bytes),
  };
}
