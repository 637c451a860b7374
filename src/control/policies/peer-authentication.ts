// PeerAuthentication → DENY policies of the node proxies, and which of them a workload carries (control-plane.md §2.17).
// Pure. Node proxies know no mTLS mode: STRICT is "deny whoever has no identity".
//
// A workload either carries the shared static policy or its own converted one, never both where ports are exempt: any
// DENY that matches wins, so the static one would take the exemption back.

import {
  hasSelector,
  inheritedMode,
  type Mode,
  modeHeld,
  modeOf,
  selectingPeerAuthentication,
} from '#k8s/mutual-tls.ts';
import type { MutualTlsMode, PeerAuthentication } from '#k8s/objects.ts';
import { matchOf, type Policy, type PolicyKey, type PolicyMatch, policyKey } from '#model/policy.ts';
import type { Labels } from '../ambient/labels.ts';

/** Underscores cannot stand in names of Kubernetes objects, so these never clash with a person's policy. */
const STATIC_NAME = 'istio_converted_static_strict';
const CONVERTED_PREFIX = 'converted_peer_authentication_';

const UNAUTHENTICATED: PolicyMatch = matchOf({ notPrincipals: [{ kind: 'presence' }] });

export function staticStrictPolicy(rootNamespace: string): Policy {
  return denyPolicy(rootNamespace, STATIC_NAME, [{ clauses: [[UNAUTHENTICATED]] }]);
}

/** The name that the object's own policy has if it gets one. */
export function convertedKey(object: PeerAuthentication): PolicyKey {
  return policyKey({
    namespace: object.metadata.namespace ?? '',
    name: `${CONVERTED_PREFIX}${object.metadata.name}`,
  });
}

/** The policies that a workload lists: at most one. */
export function peerAuthenticationFor(
  objects: readonly PeerAuthentication[],
  namespace: string,
  labels: Labels,
  rootNamespace: string,
): readonly string[] {
  const inherited = inheritedMode(objects, namespace, rootNamespace);
  const strict = policyKey({ namespace: rootNamespace, name: STATIC_NAME });
  const own = selectingPeerAuthentication(objects, namespace, labels, rootNamespace);
  if (own !== undefined) {
    const converted = convertPeerAuthentication(own, inherited, rootNamespace);
    // Istio forgets exemptions by DISABLE when the mode is inherited and keeps the static policy: a quirk not copied.
    if (converted !== undefined) return [policyKey(converted)];
  }
  return modeHeld(own, inherited) === 'STRICT' ? [strict] : [];
}

/** Undefined when the object needs no policy of its own: no port says anything that its mode does not. */
export function convertPeerAuthentication(
  object: PeerAuthentication,
  inherited: Mode,
  rootNamespace: string,
): Policy | undefined {
  const namespace = object.metadata.namespace ?? '';
  if (namespace === rootNamespace || !hasSelector(object)) return undefined;
  const ports = portModes(object);
  const name = `${CONVERTED_PREFIX}${object.metadata.name}`;
  if (modeHeld(object, inherited) === 'STRICT') {
    const exempt = ports.filter(([, mode]) => mode === 'PERMISSIVE' || mode === 'DISABLE');
    if (exempt.length === 0) return undefined;
    // One rule whose clauses are ANDed: no identity, and on none of the exempt ports.
    const onGuardedPort = exempt.map(([port]) => [matchOf({ notDestinationPorts: [port] })]);
    const clauses =
      modeOf(object) === 'STRICT'
        ? [[UNAUTHENTICATED], ...onGuardedPort]
        : [...onGuardedPort, [UNAUTHENTICATED]];
    return denyPolicy(namespace, name, [{ clauses }]);
  }
  const guarded = ports.filter(([, mode]) => mode === 'STRICT');
  if (guarded.length === 0) return undefined;
  // One rule per port: they are ORed.
  return denyPolicy(
    namespace,
    name,
    guarded.map(([port]) => ({
      clauses: [[matchOf({ notPrincipals: [{ kind: 'presence' }], destinationPorts: [port] })]],
    })),
  );
}

/** Ascending by port; keys that are no ports are left out. */
function portModes(object: PeerAuthentication): readonly (readonly [number, MutualTlsMode])[] {
  return Object.entries(object.spec?.portLevelMtls ?? {})
    .map(([port, { mode }]) => [Number(port), mode ?? 'UNSET'] as const)
    .filter(([port]) => Number.isInteger(port) && port > 0 && port <= 65_535)
    .sort(([a], [b]) => a - b);
}

function denyPolicy(namespace: string, name: string, rules: Policy['rules']): Policy {
  return { name, namespace, scope: 'WorkloadSelector', action: 'Deny', rules, dryRun: false };
}
