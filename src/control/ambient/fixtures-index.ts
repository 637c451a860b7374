// The mesh model for tests, without informers and without xDS.

import assert from 'node:assert/strict';
import type { Workload } from '#model/workload.ts';
import { decodeAddress } from '#proto/workload.ts';
import { MeshModel } from '../mesh-model.ts';

export const OPTIONS = {
  clusterId: 'Kubernetes',
  trustDomain: 'cluster.local',
  domainSuffix: 'cluster.local',
  systemNamespace: 'istio-system',
  rootNamespace: 'istio-system',
  revision: 'default',
  dryRunPolicies: false,
  allocatedVips: true,
  onlyByWaypoint: false,
};

/** The model as in the control plane; nothing flushes by itself. */
export function indexesForTest() {
  const { addresses, policies, policyIndex, index } = new MeshModel(
    { schedule: () => {}, held: { objectsIn: () => [], namespacesInUse: () => [] } },
    OPTIONS,
  );
  const announced: string[][] = [];
  addresses.onChange((names) => announced.push([...names].sort()));
  const workload = (name: string): Workload => {
    const held = addresses.get(name);
    assert.ok(held, `${name} is not published`);
    const address = decodeAddress(held.bytes);
    assert.equal(address.kind, 'workload');
    return (address as { workload: Workload }).workload;
  };
  return { addresses, policies, policyIndex, index, announced, workload };
}
