// NetworkPolicies that close the tunnel's port to pods of the mesh (pure): between pods of the mesh connections arrive at
// 15008, whatever port the application has, so a policy that opens the application's port only stops them.

import type { NetworkPolicy, NetworkPolicyPort, Pod } from '#k8s/objects.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import { INBOUND_HBONE_PORT } from '../constants.ts';
import type { Finding } from './finding.ts';

/** Policies that close everything mean it, and are not told of. */
export function checkPolicies(meshPods: readonly Pod[], policies: readonly NetworkPolicy[]): Finding[] {
  const told = new Map<string, Finding>();
  for (const pod of meshPods) {
    const selecting = policies.filter(
      ({ metadata, spec }) =>
        metadata.namespace === pod.metadata.namespace &&
        matchesSelector(spec?.podSelector, pod.metadata.labels) &&
        (spec?.policyTypes ?? ['Ingress']).includes('Ingress'),
    );
    const rules = selecting.flatMap(({ spec }) => spec?.ingress ?? []);
    const opensTunnel = rules.some(
      ({ ports }) => ports === undefined || ports.length === 0 || ports.some(isTunnel),
    );
    if (rules.length === 0 || opensTunnel) continue;
    for (const { metadata, spec } of selecting) {
      const name = `${metadata.namespace}/${metadata.name}`;
      if ((spec?.ingress ?? []).length === 0 || told.has(name)) continue;
      told.set(name, {
        id: 'policy-closes-tunnel',
        level: 'trap',
        what: `NetworkPolicy ${name} opens ports of ${pod.metadata.namespace}/${pod.metadata.name}, which is in the mesh, and nothing opens port ${INBOUND_HBONE_PORT}: tunnels time out`,
        fix: `add "- port: ${INBOUND_HBONE_PORT}" to the ports of its ingress rule`,
      });
    }
  }
  return [...told.values()];
}

function isTunnel({ protocol = 'TCP', port, endPort }: NetworkPolicyPort): boolean {
  if (protocol !== 'TCP') return false;
  if (port === undefined) return true;
  if (typeof port === 'string') return false;
  return port <= INBOUND_HBONE_PORT && INBOUND_HBONE_PORT <= (endPort ?? port);
}
