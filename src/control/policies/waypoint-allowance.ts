// "Only through the waypoint" (control-plane.md §2.16, PILOT_AUTO_ALLOW_WAYPOINT_POLICY): an ALLOW policy for the
// accounts of a waypoint's pods, listed on whoever goes through it. Pure.

import { matchOf, type Policy, type PolicyKey, policyKey } from '#model/policy.ts';
import type { Waypoint } from '../ambient/waypoint.ts';

/** Undefined while the waypoint has no pods: a policy that lets nobody in would cut everybody off. */
export function allowanceOf(waypoint: Waypoint, trustDomain: string): Policy | undefined {
  const { namespace, name, serviceAccounts } = waypoint;
  if (serviceAccounts.length === 0) return undefined;
  const principals = serviceAccounts.map((account) => ({
    kind: 'exact' as const,
    text: `${trustDomain}/ns/${namespace}/sa/${account}`,
  }));
  return {
    // Underscores cannot stand in names of Kubernetes objects: no clash with a person's policy.
    name: `istio_allow_waypoint_${namespace}_${name}`,
    namespace,
    scope: 'WorkloadSelector',
    action: 'Allow',
    rules: [{ clauses: [[matchOf({ principals })]] }],
    dryRun: false,
  };
}

/** What a workload lists for the waypoints that it is reached through, each once, sorted. */
export function allowancesFor(waypoints: Iterable<Waypoint>): PolicyKey[] {
  const keys = new Set<PolicyKey>();
  for (const { namespace, name, serviceAccounts } of waypoints)
    if (serviceAccounts.length > 0)
      keys.add(policyKey({ namespace, name: `istio_allow_waypoint_${namespace}_${name}` }));
  return [...keys].sort();
}
