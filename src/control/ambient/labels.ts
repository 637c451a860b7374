// Labels and annotations that steer the mesh model (control-plane.md §1.3), as far as this control plane obeys them.

export const LABEL = {
  canonicalName: 'service.istio.io/canonical-name',
  canonicalRevision: 'service.istio.io/canonical-revision',
  workloadName: 'service.istio.io/workload-name',
  tunnel: 'networking.istio.io/tunnel',
  network: 'topology.istio.io/network',
  region: 'topology.kubernetes.io/region',
  zone: 'topology.kubernetes.io/zone',
  subzone: 'topology.istio.io/subzone',
  revision: 'istio.io/rev',
  sliceService: 'kubernetes.io/service-name',
  useWaypoint: 'istio.io/use-waypoint',
  useWaypointNamespace: 'istio.io/use-waypoint-namespace',
  canary: 'istio.io/use-waypoint-canary',
  canaryNamespace: 'istio.io/use-waypoint-canary-namespace',
  ingressUseWaypoint: 'istio.io/ingress-use-waypoint',
  waypointFor: 'istio.io/waypoint-for',
  gatewayName: 'gateway.networking.k8s.io/gateway-name',
  gatewayManaged: 'gateway.istio.io/managed',
  autoAllocate: 'networking.istio.io/enable-autoallocate-ip',
} as const;

export const ANNOTATION = {
  redirection: 'ambient.istio.io/redirection',
  trafficDistribution: 'networking.istio.io/traffic-distribution',
  dryRun: 'istio.io/dry-run',
  canaryWeight: 'istio.io/use-waypoint-canary-weight',
  inboundBinding: 'ambient.istio.io/waypoint-inbound-binding',
  autoRegistrationGroup: 'istio.io/autoRegistrationGroup',
  connectStrategy: 'istio.io/connect-strategy',
  gatewayServiceAccount: 'gateway.istio.io/service-account',
} as const;

export type Labels = Readonly<Record<string, string>>;

const NONE: Labels = {};

export function labelsOf(object: { readonly metadata: { readonly labels?: Labels } } | undefined): Labels {
  return object?.metadata.labels ?? NONE;
}

export function annotationsOf(
  object: { readonly metadata: { readonly annotations?: Labels } } | undefined,
): Labels {
  return object?.metadata.annotations ?? NONE;
}

/** Whether the control plane of this revision looks at the object: another's label makes it another's business (§1.2). */
export function isOfRevision(
  object: { readonly metadata: { readonly labels?: Labels } },
  revision: string,
): boolean {
  const named = labelsOf(object)[LABEL.revision];
  return named === undefined || named === revision;
}

/** A selector without entries selects nothing here: "all" and "none" are the caller's decision (§2.9, §2.16). */
export function selectsLabels(selector: Labels | undefined, labels: Labels): boolean {
  if (selector === undefined) return false;
  let entries = 0;
  for (const key in selector) {
    if (labels[key] !== selector[key]) return false;
    entries++;
  }
  return entries > 0;
}
