// Which pods belong to the mesh (cni.md A.4.1), and what is to be done about one now. Pure; the agent acts on it.

import type { Pod } from '#k8s/objects.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';
import { DATAPLANE_MODE_LABEL, REDIRECTION_ANNOTATION, SIDECAR_STATUS_ANNOTATION } from './constants.ts';

export interface EnrolmentPolicy {
  /** Where the mesh's own programs run; its ztunnel pods are never enrolled. */
  readonly systemNamespace: string;
  readonly excludedNamespaces: ReadonlySet<string>;
}

export type Eligibility =
  | { readonly enrol: true; readonly reason: 'pod-label' | 'namespace-label' }
  | {
      readonly enrol: false;
      readonly reason:
        | 'host-network'
        | 'has-sidecar'
        | 'is-ztunnel'
        | 'namespace-excluded'
        | 'opted-out'
        | 'not-labelled';
    };

type Labels = Readonly<Record<string, string>> | undefined;

/** One function for the plugin's way and the informer's way, so that they cannot disagree. */
export function eligibility(pod: Pod, namespaceLabels: Labels, policy: EnrolmentPolicy): Eligibility {
  const { namespace = '', labels, annotations } = pod.metadata;
  if (pod.spec.hostNetwork === true) return { enrol: false, reason: 'host-network' };
  if (annotations?.[SIDECAR_STATUS_ANNOTATION] !== undefined) return { enrol: false, reason: 'has-sidecar' };
  if (namespace === policy.systemNamespace && labels?.app === 'ztunnel')
    return { enrol: false, reason: 'is-ztunnel' };
  if (policy.excludedNamespaces.has(namespace)) return { enrol: false, reason: 'namespace-excluded' };
  const podMode = labels?.[DATAPLANE_MODE_LABEL];
  if (podMode === 'ambient') return { enrol: true, reason: 'pod-label' };
  if (podMode === 'none') return { enrol: false, reason: 'opted-out' };
  // Any other value of the pod's label says nothing; the namespace decides.
  if (namespaceLabels?.[DATAPLANE_MODE_LABEL] === 'ambient')
    return { enrol: true, reason: 'namespace-label' };
  return { enrol: false, reason: 'not-labelled' };
}

/** Kubernetes counts these pods as over, and blanks their addresses. */
export function isTerminal(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

/** `status.podIPs`, else `status.podIP`; empty while the pod has none. */
export function podIps(pod: Pod): IpAddress[] {
  const listed = pod.status?.podIPs?.map(({ ip }) => ip) ?? [];
  const texts = listed.length > 0 ? listed : [pod.status?.podIP ?? ''];
  return texts.map(parseIp).filter((ip) => ip !== undefined);
}

export type RedirectionStatus = 'enabled' | 'pending' | 'absent';

export function redirectionOf(pod: Pod): RedirectionStatus {
  const value = pod.metadata.annotations?.[REDIRECTION_ANNOTATION];
  return value === 'enabled' || value === 'pending' ? value : 'absent';
}

/** What the agent itself knows of the pod's namespace. */
export type Enrolled =
  /** Nothing was done in this process's life, or everything was undone. */
  | { readonly stage: 'none' }
  /** Begun: rules may be there, a later step failed or is yet to come. */
  | { readonly stage: 'partial' }
  | { readonly stage: 'done'; readonly ips: readonly IpAddress[] };

export type NextStep =
  | { readonly kind: 'nothing'; readonly reason: 'settled' | 'not-ours' | 'no-address-yet' }
  | { readonly kind: 'add'; readonly ips: readonly IpAddress[] }
  | { readonly kind: 'addresses'; readonly ips: readonly IpAddress[] }
  /** `podEnded`: the namespace dies with the pod, so only what lies outside it is undone. */
  | { readonly kind: 'remove'; readonly podEnded: boolean };

/**
 * The next step for a pod; `pod` undefined: deleted. `knownIps`: addresses the plugin brought before the API server
 * knew them.
 */
export function nextStep(
  pod: Pod | undefined,
  eligible: Eligibility,
  enrolled: Enrolled,
  knownIps: readonly IpAddress[] = [],
): NextStep {
  const begun = enrolled.stage !== 'none';
  if (pod === undefined || isTerminal(pod)) {
    const isAnnotated = pod !== undefined && redirectionOf(pod) !== 'absent';
    return begun || isAnnotated
      ? { kind: 'remove', podEnded: true }
      : { kind: 'nothing', reason: 'not-ours' };
  }
  if (!eligible.enrol) {
    return begun || redirectionOf(pod) !== 'absent'
      ? { kind: 'remove', podEnded: false }
      : { kind: 'nothing', reason: 'not-ours' };
  }
  const fresh = podIps(pod);
  const ips = fresh.length > 0 ? fresh : knownIps;
  if (enrolled.stage === 'done') {
    const isSame = fresh.length === 0 || sameAddresses(fresh, enrolled.ips);
    return isSame ? { kind: 'nothing', reason: 'settled' } : { kind: 'addresses', ips: fresh };
  }
  if (ips.length === 0) return { kind: 'nothing', reason: 'no-address-yet' };
  return { kind: 'add', ips };
}

function sameAddresses(left: readonly IpAddress[], right: readonly IpAddress[]): boolean {
  return left.length === right.length && left.every((ip) => right.includes(ip));
}
