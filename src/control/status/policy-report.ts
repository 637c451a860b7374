// What is said in the status of AuthorizationPolicies (control-plane.md §3.3, §3.5, §3.6): whether the node proxies
// enforce the policy, or the waypoints that it is aimed at; and if not, or not all of it, why. Pure, given the view.

import type { AuthorizationPolicy, PolicyTargetRef } from '#k8s/objects.ts';
import { type ConversionOptions, convertAuthorizationPolicy } from '../policies/authorization-policy.ts';
import type { Report, Statement } from './condition.ts';
import type { StatusView } from './view.ts';

export const ZTUNNEL_MANAGER = 'istio-ambient-ztunnel-policy';
const WAYPOINT_MANAGER = 'istio-ambient-waypoint-policy';
export const ZTUNNEL_ACCEPTED = 'ZtunnelAccepted';
const WAYPOINT_ACCEPTED = 'WaypointAccepted';

/** Of GatewayClasses that make waypoints. */
const MESH_CONTROLLER = 'istio.io/mesh-controller';

export function reportsOfPolicy(
  object: AuthorizationPolicy,
  view: StatusView,
  options: ConversionOptions,
): readonly Report[] {
  const isOurs = view.deps.isOurs(object);
  const byNodeProxies = isOurs ? ofNodeProxies(object, view, options) : [];
  const byWaypoints = isOurs ? ofWaypoints(object, view) : [];
  // One manager speaks at a time, after the other has fallen silent: in Istio's own definition conditions are one value,
  // and two who each apply theirs would take turns for ever. A policy in dry-run that is aimed at a waypoint gets both.
  return byWaypoints.length > 0
    ? [
        {
          manager: ZTUNNEL_MANAGER,
          types: byNodeProxies.length > 0 ? [] : [ZTUNNEL_ACCEPTED],
          statements: [],
        },
        {
          manager: WAYPOINT_MANAGER,
          types: [WAYPOINT_ACCEPTED, ...(byNodeProxies.length > 0 ? [ZTUNNEL_ACCEPTED] : [])],
          statements: [...byWaypoints, ...byNodeProxies],
        },
      ]
    : [
        { manager: WAYPOINT_MANAGER, types: [WAYPOINT_ACCEPTED], statements: [] },
        { manager: ZTUNNEL_MANAGER, types: [ZTUNNEL_ACCEPTED], statements: byNodeProxies },
      ];
}

function ofNodeProxies(
  object: AuthorizationPolicy,
  view: StatusView,
  options: ConversionOptions,
): readonly Statement[] {
  const conversion = convertAuthorizationPolicy(object, options);
  const { generation, namespace = '' } = object.metadata;
  const statement = (status: boolean, reason: string, message: string): readonly Statement[] => [
    { type: ZTUNNEL_ACCEPTED, status, reason, message, generation },
  ];
  if (conversion.kind === 'not-sent')
    return conversion.reason === 'waypoint' ? [] : statement(false, 'UnsupportedValue', conversion.explain);
  const selector = object.spec?.selector;
  const nobody =
    selector === undefined || view.selectsAnybody(namespace, selector)
      ? ''
      : '; its selector matches no workload at present';
  return statement(
    true,
    conversion.unsupported.length === 0 ? 'Accepted' : 'UnsupportedValue',
    `${conversion.explain}${nobody}`,
  );
}

interface Attachment {
  /** `Kind.group:namespace/name`, as it stands in messages. */
  readonly target: string;
  readonly bound: boolean;
  readonly reason: 'Accepted' | 'Invalid' | 'AncestorNotBound' | 'TargetNotFound';
  readonly message: string;
}

function ofWaypoints(object: AuthorizationPolicy, view: StatusView): readonly Statement[] {
  const { targetRef, targetRefs = [] } = object.spec ?? {};
  const refs = targetRefs.length > 0 ? targetRefs : targetRef === undefined ? [] : [targetRef];
  const attachments = refs.map((ref) => attach(ref, object.metadata.namespace ?? '', view));
  const [first] = attachments;
  if (first === undefined) return [];
  const { generation } = object.metadata;
  const base = { type: WAYPOINT_ACCEPTED, generation };
  if (attachments.length === 1)
    return [{ ...base, status: first.bound, reason: first.reason, message: first.message }];
  const bad = attachments.filter(({ bound }) => !bound).map(({ target }) => target);
  const status = bad.length < attachments.length;
  return [
    {
      ...base,
      status,
      reason: !status ? 'Invalid' : bad.length > 0 ? 'PartiallyInvalid' : 'Accepted',
      message:
        bad.length > 0
          ? `targetRefs that nothing enforces: ${bad.join(', ')}`
          : `bound to ${attachments.length} targets`,
    },
  ];
}

function attach(ref: PolicyTargetRef, home: string, view: StatusView): Attachment {
  const namespace = ref.namespace === undefined || ref.namespace === '' ? home : ref.namespace;
  const key = `${namespace}/${ref.name}`;
  const target = `${ref.kind}.${ref.group === undefined || ref.group === '' ? 'core' : ref.group}:${key}`;
  const bound = (waypoint: string): Attachment => ({
    target,
    bound: true,
    reason: 'Accepted',
    message: `bound to ${waypoint}`,
  });
  const unbound = (reason: Attachment['reason'], message: string): Attachment => ({
    target,
    bound: false,
    reason,
    message,
  });
  switch (ref.kind) {
    case 'GatewayClass': {
      if (namespace !== view.rootNamespace)
        return unbound(
          'Invalid',
          `only policies of the root namespace ${view.rootNamespace} may be aimed at a GatewayClass`,
        );
      const found = view.deps.informers.gatewayClasses.get(ref.name);
      if (found === undefined) return unbound('TargetNotFound', `GatewayClass ${ref.name} was not found`);
      return found.spec?.controllerName === MESH_CONTROLLER
        ? bound(ref.name)
        : unbound('Invalid', `GatewayClass ${ref.name} makes no waypoints (controller ${MESH_CONTROLLER})`);
    }
    case 'Gateway':
      return view.waypoint(namespace, ref.name) === undefined
        ? unbound('TargetNotFound', `Gateway ${key} was not found, or has no address yet`)
        : bound(key);
    case 'Service':
    case 'ServiceEntry': {
      const service = ref.kind === 'Service' ? view.service(key) : undefined;
      const entry = ref.kind === 'ServiceEntry' ? view.serviceEntry(key) : undefined;
      const object = service ?? entry;
      if (object === undefined) return unbound('TargetNotFound', `${ref.kind} ${key} was not found`);
      const sameNamespaceOnly = entry !== undefined && view.visibilityOf(entry) === 'Namespace';
      const { waypoint } = view.bindService(object, sameNamespaceOnly);
      return waypoint === undefined
        ? unbound('AncestorNotBound', `${ref.kind} ${key} is not bound to a waypoint`)
        : bound(`${waypoint.namespace}/${waypoint.name}`);
    }
    default:
      return unbound(
        'Invalid',
        `a ${ref.kind} can be no target: Gateway, GatewayClass, Service, ServiceEntry`,
      );
  }
}
