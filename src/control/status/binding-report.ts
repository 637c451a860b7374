// What is said in the status of Services, ServiceEntries and WorkloadEntries: which waypoint they go through, or why
// through none (control-plane.md §2.12, §3.6). Pure, given the view.

import type { ServiceEntry, WorkloadEntry } from '#k8s/mesh-objects.ts';
import type { Service } from '#k8s/objects.ts';
import { labelsOfEntry } from '../ambient/endpoint.ts';
import { ANNOTATION, annotationsOf, LABEL, labelsOf } from '../ambient/labels.ts';
import { EVERYBODY } from '../ambient/service-visibility.ts';
import {
  type Binding,
  type BindingError,
  bindWorkload,
  type ServiceBinding,
} from '../ambient/waypoint-binding.ts';
import type { Report, Statement } from './condition.ts';
import type { StatusView } from './view.ts';

const SERVICE_MANAGER = 'istio-ambient-service';
const WORKLOAD_ENTRY_MANAGER = 'istio-ambient-workloadentry';
const WAYPOINT_BOUND = 'istio.io/WaypointBound';
const WAYPOINT_MISSING = 'istio.io/WaypointMissing';
const VISIBILITY_APPLIED = 'istio.io/VisibilityApplied';

export function reportsOfService(object: Service, view: StatusView): readonly Report[] {
  const isSeen = view.deps.sees(object.metadata.namespace) && object.spec.type !== 'ExternalName';
  return [
    {
      manager: SERVICE_MANAGER,
      types: [WAYPOINT_BOUND],
      statements: isSeen ? boundService(object, view.bindService(object, false), view) : [],
    },
  ];
}

export function reportsOfServiceEntry(object: ServiceEntry, view: StatusView): readonly Report[] {
  const visibility = view.visibilityOf(object);
  const isPublished = view.deps.isOurs(object) && visibility !== 'None';
  const types = [WAYPOINT_BOUND, WAYPOINT_MISSING, VISIBILITY_APPLIED];
  if (!isPublished) return [{ manager: SERVICE_MANAGER, types, statements: [] }];
  const isConfigured = view.deps.config().serviceEntryVisibility !== EVERYBODY;
  const binding = view.bindService(object, visibility === 'Namespace');
  return [
    {
      manager: SERVICE_MANAGER,
      types,
      statements: [
        ...boundService(object, binding, view),
        ...(binding.waypoint === undefined ? missingWaypoint(object) : []),
        ...(isConfigured ? [appliedVisibility(visibility)] : []),
      ],
    },
  ];
}

export function reportsOfWorkloadEntry(object: WorkloadEntry, view: StatusView): readonly Report[] {
  const namespace = object.metadata.namespace ?? '';
  const statements = view.deps.isOurs(object)
    ? bound(bindWorkload({ namespace, labels: labelsOfEntry(object) }, view), 'workload')
    : [];
  return [{ manager: WORKLOAD_ENTRY_MANAGER, types: [WAYPOINT_BOUND], statements }];
}

function boundService(
  object: Service | ServiceEntry,
  binding: ServiceBinding,
  view: StatusView,
): readonly Statement[] {
  const { waypoint, error, ingressUseWaypoint } = binding;
  const [statement] = bound(binding, 'service');
  if (statement === undefined || waypoint === undefined) return statement === undefined ? [] : [statement];
  const says =
    labelsOf(object)[LABEL.ingressUseWaypoint] ??
    view.namespaceLabels(object.metadata.namespace ?? '')[LABEL.ingressUseWaypoint];
  const ingress = ingressUseWaypoint
    ? '; traffic of ingress gateways goes through it, too'
    : says !== undefined
      ? `; traffic of ingress gateways does not, set the label ${LABEL.ingressUseWaypoint} to true if it shall`
      : '';
  const canary = error === undefined ? '' : `; the canary is not used: ${explain(error, 'service')}`;
  return [{ ...statement, message: `${statement.message}${ingress}${canary}` }];
}

/** Nothing when no waypoint is asked for. */
function bound({ waypoint, error }: Binding, traffic: 'service' | 'workload'): readonly Statement[] {
  const type = WAYPOINT_BOUND;
  if (waypoint !== undefined) {
    const message = `bound to waypoint ${waypoint.namespace}/${waypoint.name}`;
    return [{ type, status: true, reason: 'WaypointAccepted', message }];
  }
  if (error === undefined) return [];
  return [{ type, status: false, reason: error.reason, message: explain(error, traffic) }];
}

function explain(
  { reason, waypoint }: { readonly reason: BindingError; readonly waypoint: string },
  traffic: 'service' | 'workload',
): string {
  switch (reason) {
    case 'WaypointIsNotReady':
      return `waypoint ${waypoint} is not there, or has no address yet`;
    case 'AttachmentDenied':
      return `waypoint ${waypoint} does not admit this namespace (allowedRoutes of its listener)`;
    case 'UnsupportedTrafficType':
      return `waypoint ${waypoint} is not for ${traffic} traffic (label ${LABEL.waypointFor})`;
    case 'CrossNamespaceWaypointForbidden':
      return `waypoint ${waypoint} is in another namespace, and this ServiceEntry is seen in its own only`;
    case 'CanarySameAsPrimary':
      return `${waypoint} is the waypoint already`;
    case 'CanaryInvalidWeight':
      return `the weight for ${waypoint} is no whole number from 0 to 100`;
  }
}

const RACING = 'RACE_FIRST_TCP_CONNECT';

/** What works only with a waypoint, and has none. */
function missingWaypoint(object: ServiceEntry): readonly Statement[] {
  const statement = (reason: string, message: string): readonly Statement[] => [
    { type: WAYPOINT_MISSING, status: true, reason, message },
  ];
  if (annotationsOf(object)[ANNOTATION.connectStrategy]?.toUpperCase() === RACING)
    return statement(
      'NoWaypointForRacingConnectStrategy',
      `the connect strategy ${RACING} has no effect without a waypoint`,
    );
  return (object.spec?.hosts ?? []).some((host) => host.startsWith('*'))
    ? statement('NoWaypointForWildcardService', 'wildcard hosts have no effect without a waypoint')
    : [];
}

const appliedVisibility = (visibility: 'Public' | 'Namespace'): Statement => ({
  type: VISIBILITY_APPLIED,
  status: true,
  reason: visibility,
  message:
    visibility === 'Public'
      ? 'seen in the whole mesh (PUBLIC)'
      : 'seen in its own namespace only (NAMESPACE), by serviceEntryVisibility of the mesh configuration',
});
