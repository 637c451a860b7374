// Which waypoint an object goes through (control-plane.md §2.12). Pure, given what it may look up.
//
// A reference that cannot be honoured means *no* waypoint, never the namespace's: traffic flows at L4, and the reason
// is kept for the object's status.

import type { GatewayRef, Workload } from '#model/workload.ts';
import { ANNOTATION, LABEL, type Labels } from './labels.ts';
import { admitsNamespace, handles, type Waypoint } from './waypoint.ts';

/** What is looked up is remembered by who answers, so that a change finds its way back to who asked. */
export interface WaypointLookup {
  namespaceLabels(name: string): Labels;
  namespaceAnnotations(name: string): Labels;
  waypoint(namespace: string, name: string): Waypoint | undefined;
}

export interface Target {
  readonly namespace: string;
  readonly labels: Labels;
  readonly annotations?: Labels;
}

export type BindingError =
  | 'WaypointIsNotReady'
  | 'AttachmentDenied'
  | 'UnsupportedTrafficType'
  | 'CrossNamespaceWaypointForbidden'
  | 'CanarySameAsPrimary'
  | 'CanaryInvalidWeight';

export interface Binding {
  readonly waypoint: Waypoint | undefined;
  /** `namespace/name` that the error speaks of. */
  readonly error?: { readonly reason: BindingError; readonly waypoint: string };
}

export interface ServiceBinding extends Binding {
  readonly weighted: readonly { readonly destination: GatewayRef; readonly weight: number }[];
  readonly ingressUseWaypoint: boolean;
}

export interface WorkloadBinding extends Binding {
  /** Set on the pods of waypoints, which have no waypoint themselves. */
  readonly applicationTunnel: Workload['applicationTunnel'];
}

const NOT_BOUND: ServiceBinding = Object.freeze({
  waypoint: undefined,
  weighted: [],
  ingressUseWaypoint: false,
});

/** The services in front of waypoints and east-west gateways have none themselves. */
const MANAGED_GATEWAYS = ['istio.io-mesh-controller', 'istio.io-eastwest-controller'];

export function bindService(
  target: Target,
  look: WaypointLookup,
  options: { readonly sameNamespaceOnly: boolean },
): ServiceBinding {
  if (MANAGED_GATEWAYS.includes(target.labels[LABEL.gatewayManaged] ?? '')) return NOT_BOUND;
  const { waypoint, error } = attach(target, look);
  if (waypoint === undefined) return error === undefined ? NOT_BOUND : { ...NOT_BOUND, error };
  if (!handles(waypoint, 'service')) return refuse('UnsupportedTrafficType', waypoint);
  if (options.sameNamespaceOnly && waypoint.namespace !== target.namespace)
    return refuse('CrossNamespaceWaypointForbidden', waypoint);
  return {
    waypoint,
    ingressUseWaypoint: ingressUseWaypoint(target, look),
    ...weigh(target, waypoint, look),
  };
}

export function bindWorkload(target: Target, look: WaypointLookup): WorkloadBinding {
  const none = { waypoint: undefined, applicationTunnel: undefined };
  const instanceOf = target.labels[LABEL.gatewayName];
  const own = instanceOf === undefined ? undefined : look.waypoint(target.namespace, instanceOf);
  if (own !== undefined) return { waypoint: undefined, applicationTunnel: own.binding };
  const { waypoint, error } = attach(target, look);
  if (waypoint === undefined) return error === undefined ? none : { ...none, error };
  if (handles(waypoint, 'workload')) return { waypoint, applicationTunnel: undefined };
  // Inherited: the namespace meant its services.
  if (target.labels[LABEL.useWaypoint] === undefined) return none;
  return { ...none, error: { reason: 'UnsupportedTrafficType', waypoint: keyOf(waypoint) } };
}

/** The object's own word first, then its namespace's. */
function attach(target: Target, look: WaypointLookup): Binding {
  const named = reference(target.labels, target.namespace);
  if (named === 'none') return { waypoint: undefined };
  if (named !== undefined) return admit(named, target, look);
  const inherited = reference(look.namespaceLabels(target.namespace), target.namespace);
  if (inherited === undefined || inherited === 'none') return { waypoint: undefined };
  return admit(inherited, target, look);
}

interface Reference {
  readonly namespace: string;
  readonly name: string;
}

function reference(labels: Labels, home: string): Reference | 'none' | undefined {
  const name = labels[LABEL.useWaypoint];
  if (name === undefined) return undefined;
  // The word is reserved: a waypoint of this name cannot be used. An empty name is a name that nobody has.
  if (name === 'none') return 'none';
  return { namespace: labels[LABEL.useWaypointNamespace] ?? home, name };
}

function admit({ namespace, name }: Reference, target: Target, look: WaypointLookup): Binding {
  const waypoint = look.waypoint(namespace, name);
  if (waypoint === undefined)
    return {
      waypoint: undefined,
      error: { reason: 'WaypointIsNotReady', waypoint: `${namespace}/${name}` },
    };
  if (!admitsNamespace(waypoint, target.namespace, look.namespaceLabels(target.namespace)))
    return { waypoint: undefined, error: { reason: 'AttachmentDenied', waypoint: keyOf(waypoint) } };
  return { waypoint };
}

/** The second waypoint of a weighted split. Both entries are always there; `waypoint` stays the primary. */
function weigh(
  target: Target,
  primary: Waypoint,
  look: WaypointLookup,
): Pick<ServiceBinding, 'weighted' | 'error'> {
  // The namespace's canary goes with the namespace's primary, not with one that the object chose.
  const ownPrimary = reference(target.labels, target.namespace);
  const inherits = typeof ownPrimary !== 'object';
  const own = target.labels[LABEL.canary] !== undefined;
  const labels = own || !inherits ? target.labels : look.namespaceLabels(target.namespace);
  const name = labels[LABEL.canary];
  if (name === undefined || name === '' || name === 'none') return { weighted: [] };
  const wanted: Reference = { namespace: labels[LABEL.canaryNamespace] ?? target.namespace, name };
  const key = `${wanted.namespace}/${wanted.name}`;
  if (key === keyOf(primary))
    return { weighted: [], error: { reason: 'CanarySameAsPrimary', waypoint: key } };
  const weight = percent(
    target.annotations?.[ANNOTATION.canaryWeight] ??
      (inherits ? look.namespaceAnnotations(target.namespace)[ANNOTATION.canaryWeight] : undefined),
  );
  if (weight === undefined) return { weighted: [], error: { reason: 'CanaryInvalidWeight', waypoint: key } };
  const { waypoint: canary, error } = admit(wanted, target, look);
  if (canary === undefined) return error === undefined ? { weighted: [] } : { weighted: [], error };
  if (!handles(canary, 'service'))
    return { weighted: [], error: { reason: 'UnsupportedTrafficType', waypoint: key } };
  if (primary.destination === undefined || canary.destination === undefined) return { weighted: [] };
  return {
    weighted: [
      { destination: primary.destination, weight: 100 - weight },
      { destination: canary.destination, weight },
    ],
  };
}

function percent(text: string | undefined): number | undefined {
  if (text === undefined) return 0;
  return /^\+?\d{1,9}$/.test(text) && Number(text) <= 100 ? Number(text) : undefined;
}

/** What Go takes for a truth value: an API written with it. */
const TRUE = ['1', 't', 'T', 'TRUE', 'true', 'True'];

function ingressUseWaypoint(target: Target, look: WaypointLookup): boolean {
  const value =
    target.labels[LABEL.ingressUseWaypoint] ??
    look.namespaceLabels(target.namespace)[LABEL.ingressUseWaypoint];
  return value !== undefined && TRUE.includes(value);
}

const keyOf = (waypoint: Waypoint): string => `${waypoint.namespace}/${waypoint.name}`;

const refuse = (reason: BindingError, waypoint: Waypoint): ServiceBinding => ({
  ...NOT_BOUND,
  error: { reason, waypoint: keyOf(waypoint) },
});
