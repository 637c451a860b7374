// The trap of port 15008 (pure): between pods of the mesh connections arrive at the tunnel's port, whatever port the
// application listens on. A policy that opens the application's port only stops them.

import type { NetworkPolicy, Pod } from '#k8s/objects.ts';
import {
  type Allow,
  isolationOf,
  type PolicyPod,
  type PolicyWorld,
  policyTypesOf,
  selects,
} from './policy-rules.ts';
import { includes } from './ranges.ts';

export const TUNNEL_PORT = 15_008;
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection';

export interface MeshPortHint {
  readonly policy: NetworkPolicy;
  readonly message: string;
}

/** Policies that open some ports of pods in the mesh while nothing opens the tunnel's. Those that open nothing mean it. */
export function blockedMeshPort(
  pods: readonly { readonly object: Pod; readonly policyPod: PolicyPod }[],
  world: PolicyWorld,
): MeshPortHint[] {
  const hints = new Map<NetworkPolicy, string>();
  for (const { object, policyPod } of pods) {
    if (object.metadata.annotations?.[REDIRECTION_ANNOTATION] !== 'enabled') continue;
    const { ingress, egress } = isolationOf(policyPod, world);
    for (const [type, allows, section] of [
      ['Ingress', ingress, 'ingress'],
      ['Egress', egress, 'egress'],
    ] as const) {
      if (!isTrap(allows)) continue;
      const name = `${object.metadata.namespace}/${object.metadata.name}`;
      const message = `pod ${name} is in the mesh, where connections ${type === 'Ingress' ? 'arrive at' : 'leave for'} port ${TUNNEL_PORT} (HBONE) whatever port the application has; no policy opens it: add "- port: ${TUNNEL_PORT}" to the ports of the ${section} rule`;
      for (const policy of world.policies)
        if (
          !hints.has(policy) &&
          selects(policy, policyPod) &&
          policyTypesOf(policy).includes(type) &&
          (policy.spec?.[section] ?? []).length > 0
        )
          hints.set(policy, message);
    }
  }
  return [...hints].map(([policy, message]) => ({ policy, message }));
}

function isTrap(allows: readonly Allow[] | undefined): boolean {
  if (allows === undefined) return false;
  const opensTcp = allows.some(
    ({ ports }) => ports !== 'any' && ports.some(({ protocol }) => protocol === 'tcp'),
  );
  const opensTunnel = allows.some(
    ({ ports }) =>
      ports === 'any' || ports.some((range) => range.protocol === 'tcp' && includes([range], TUNNEL_PORT)),
  );
  return opensTcp && !opensTunnel;
}
