// The two indexes wired together for tests, without informers and without xDS.

import assert from 'node:assert/strict';
import type { Workload } from '#model/workload.ts';
import { AUTHORIZATION_TYPE_URL } from '#proto/authorization.ts';
import { ADDRESS_TYPE_URL, decodeAddress } from '#proto/workload.ts';
import { PolicyIndex } from '../policies/policy-index.ts';
import { AmbientIndex } from './ambient-index.ts';
import { ResourceSet } from './resource-set.ts';

const OPTIONS = {
  clusterId: 'Kubernetes',
  trustDomain: 'cluster.local',
  domainSuffix: 'cluster.local',
  systemNamespace: 'istio-system',
  revision: 'default',
};

/** Both indexes wired as in the control plane; nothing flushes by itself. */
export function indexesForTest() {
  const addresses = new ResourceSet(ADDRESS_TYPE_URL);
  const policies = new ResourceSet(AUTHORIZATION_TYPE_URL);
  const policyIndex = new PolicyIndex(
    { policies, onSelectionChange: (where, touches) => index.policiesChanged(where, touches) },
    { rootNamespace: 'istio-system', revision: 'default', dryRun: false },
  );
  const index: AmbientIndex = new AmbientIndex(
    { addresses, policies: policyIndex, schedule: () => {} },
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
