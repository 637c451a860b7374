// PeerAuthentication → DENY policies of the node proxies, and which of them a workload carries (control-plane.md §2.17).
// Pure. Node proxies know no mTLS mode: STRICT is "deny whoever has no identity".
//
// A workload either carries the shared static policy or its own converted one, never both where ports are exempt: any
// DENY that matches wins, so the static one would take the exemption back.

import { objectKey } from '#k8s/informer.ts';
import type { MutualTlsMode, PeerAuthentication } from '#k8s/objects.ts';
import { matchOf, type Policy, type PolicyKey, type PolicyMatch, policyKey } from '#model/policy.ts';
import { type Labels, selectsLabels } from '../ambient/labels.ts';

/** Underscores cannot stand in names of Kubernetes objects, so these never clash with a person's policy. */
const STATIC_NAME = 'istio_converted_static_strict';
const CONVERTED_PREFIX = 'converted_peer_authentication_';

const UNAUTHENTICATED: PolicyMatch = matchOf({ notPrincipals: [{ kind: 'presence' }] });

export type Mode = Exclude<MutualTlsMode, 'UNSET'>;

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

export function hasSelector(object: PeerAuthentication): boolean {
  return Object.keys(object.spec?.selector?.matchLabels ?? {}).length > 0;
}

/** The mode that holds in a namespace where no selector says otherwise. PERMISSIVE if nobody says anything. */
export function inheritedMode(
  objects: Iterable<PeerAuthentication>,
  namespace: string,
  rootNamespace: string,
): Mode {
  const plain = [...objects].filter((object) => !hasSelector(object));
  const mesh = modeOf(oldest(plain.filter((object) => object.metadata.namespace === rootNamespace)));
  const own = modeOf(oldest(plain.filter((object) => object.metadata.namespace === namespace)));
  if (own !== 'UNSET') return own;
  return mesh === 'UNSET' ? 'PERMISSIVE' : mesh;
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
  // Selectors in the root namespace are ignored: it speaks for the whole mesh only.
  const own =
    namespace === rootNamespace
      ? undefined
      : oldest(
          objects.filter(
            (object) =>
              object.metadata.namespace === namespace &&
              selectsLabels(object.spec?.selector?.matchLabels, labels),
          ),
        );
  if (own !== undefined) {
    const converted = convertPeerAuthentication(own, inherited, rootNamespace);
    // Istio forgets exemptions by DISABLE when the mode is inherited and keeps the static policy: a quirk not copied.
    if (converted !== undefined) return [policyKey(converted)];
  }
  const mode = own === undefined || modeOf(own) === 'UNSET' ? inherited : modeOf(own);
  return mode === 'STRICT' ? [strict] : [];
}

/** Undefined when the object needs no policy of its own: no port says anything that its mode does not. */
export function convertPeerAuthentication(
  object: PeerAuthentication,
  inherited: Mode,
  rootNamespace: string,
): Policy | undefined {
  const namespace = object.metadata.namespace ?? '';
  if (namespace === rootNamespace || !hasSelector(object)) return undefined;
  const strict = isStrict(object, inherited);
  const ports = portModes(object);
  const name = `${CONVERTED_PREFIX}${object.metadata.name}`;
  if (strict) {
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

function isStrict(object: PeerAuthentication, inherited: Mode): boolean {
  const own = modeOf(object);
  return (own === 'UNSET' ? inherited : own) === 'STRICT';
}

function modeOf(object: PeerAuthentication | undefined): MutualTlsMode {
  return object?.spec?.mtls?.mode ?? 'UNSET';
}

/** Ascending by port; keys that are no ports are left out. */
function portModes(object: PeerAuthentication): readonly (readonly [number, MutualTlsMode])[] {
  return Object.entries(object.spec?.portLevelMtls ?? {})
    .map(([port, { mode }]) => [Number(port), mode ?? 'UNSET'] as const)
    .filter(([port]) => Number.isInteger(port) && port > 0 && port <= 65_535)
    .sort(([a], [b]) => a - b);
}

/** The oldest decides; the name breaks a tie, so that every replica decides alike. */
export function oldest(objects: readonly PeerAuthentication[]): PeerAuthentication | undefined {
  const age = (object: PeerAuthentication) =>
    `${object.metadata.creationTimestamp ?? ''} ${objectKey(object)}`;
  return objects.reduce<PeerAuthentication | undefined>(
    (first, object) => (first === undefined || age(object) < age(first) ? object : first),
    undefined,
  );
}

function denyPolicy(namespace: string, name: string, rules: Policy['rules']): Policy {
  return { name, namespace, scope: 'WorkloadSelector', action: 'Deny', rules, dryRun: false };
}
