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
} as const;

export const ANNOTATION = {
  redirection: 'ambient.istio.io/redirection',
  trafficDistribution: 'networking.istio.io/traffic-distribution',
  dryRun: 'istio.io/dry-run',
} as const;

export type Labels = Readonly<Record<string, string>>;

const NONE: Labels = {};

export function labelsOf(object: { readonly metadata: { readonly labels?: Labels } }): Labels {
  return object.metadata.labels ?? NONE;
}

export function annotationsOf(object: { readonly metadata: { readonly annotations?: Labels } }): Labels {
  return object.metadata.annotations ?? NONE;
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
