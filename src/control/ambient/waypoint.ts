// Gateway → waypoint (control-plane.md §2.11). Pure. Any Gateway with an address in its status may be one, whatever
// its class; the class only supplies defaults.

import type { Gateway, GatewayClass, GatewayListener } from '#k8s/mesh-objects.ts';
import type { LabelSelector } from '#k8s/objects.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import type { GatewayRef, Workload } from '#model/workload.ts';
import { parseIp } from '#net/ip.ts';
import { ANNOTATION, annotationsOf, LABEL, type Labels, labelsOf } from './labels.ts';

/** Whatever the Gateway says it handles; a text that is none of these handles nothing that this index binds. */
export type TrafficType = 'service' | 'workload' | 'all' | 'none';

export interface Waypoint {
  readonly namespace: string;
  readonly name: string;
  /** Undefined when no address of the status can be used: bound objects are then published without. */
  readonly destination: GatewayRef | undefined;
  readonly handles: TrafficType;
  readonly admits: { readonly from: 'All' | 'Same' | 'Selector'; readonly selector?: LabelSelector };
  /** Of its pods, sorted; known only where policies are made of them. */
  readonly serviceAccounts: readonly string[];
  /** How the waypoint's own pods want inbound connections handed over. */
  readonly binding: NonNullable<Workload['applicationTunnel']> | undefined;
}

/** ztunnel dials waypoints there, whatever their listeners say. */
const HBONE_PORT = 15008;

export function waypointOf(
  gateway: Gateway,
  gatewayClass: GatewayClass | undefined,
  network: string,
  serviceAccounts: readonly string[],
): Waypoint | undefined {
  if ((gateway.status?.addresses ?? []).length === 0) return undefined;
  const binding = bindingOf(
    annotationsOf(gateway)[ANNOTATION.inboundBinding] ??
      annotationsOf(gatewayClass)[ANNOTATION.inboundBinding],
  );
  return {
    namespace: gateway.metadata.namespace ?? '',
    name: gateway.metadata.name,
    destination: destinationOf(gateway, network),
    handles: trafficType(
      labelsOf(gateway)[LABEL.waypointFor] ?? labelsOf(gatewayClass)[LABEL.waypointFor] ?? 'service',
    ),
    serviceAccounts,
    admits: admission(gateway.spec?.listeners ?? [], binding),
    binding,
  };
}

/** Whether objects of the namespace may use the waypoint. */
export function admitsNamespace(waypoint: Waypoint, namespace: string, labels: Labels): boolean {
  switch (waypoint.admits.from) {
    case 'All':
      return true;
    case 'Selector':
      return matchesSelector(waypoint.admits.selector, labels);
    default:
      return waypoint.namespace === namespace;
  }
}

export function handles(waypoint: Waypoint, traffic: 'service' | 'workload'): boolean {
  return waypoint.handles === traffic || waypoint.handles === 'all';
}

function trafficType(text: string): TrafficType {
  return text === 'service' || text === 'workload' || text === 'all' ? text : 'none';
}

/** A host name before an address: addresses may be given to somebody else, the name of a service stays. */
function destinationOf(gateway: Gateway, network: string): GatewayRef | undefined {
  const addresses = gateway.status?.addresses ?? [];
  const named = addresses.find(({ type }) => type === 'Hostname');
  if (named !== undefined)
    return {
      destination: {
        kind: 'hostname',
        namespace: gateway.metadata.namespace ?? '',
        hostname: named.value,
      },
      hbonePort: HBONE_PORT,
    };
  for (const { type = 'IPAddress', value } of addresses) {
    const ip = type === 'IPAddress' ? parseIp(value) : undefined;
    if (ip !== undefined)
      return { destination: { kind: 'address', address: { network, ip } }, hbonePort: HBONE_PORT };
  }
  return undefined;
}

/** `PROTOCOL` or `PROTOCOL/PORT`; anything else is no binding. */
function bindingOf(text: string | undefined): Waypoint['binding'] {
  const parts = /^(NONE|PROXY)(?:\/(\d{1,5}))?$/.exec(text ?? '');
  if (parts === null) return undefined;
  const port = Number(parts[2] ?? 0);
  if (port > 65_535) return undefined;
  return { protocol: parts[1] as 'NONE' | 'PROXY', port: port === 0 ? undefined : port };
}

const PROXY_LISTENER = 'istio.io/PROXY';

/** Who may attach is said by the listener that takes the mesh's connections; without one only the same namespace. */
function admission(listeners: readonly GatewayListener[], binding: Waypoint['binding']): Waypoint['admits'] {
  const bound =
    binding?.port !== undefined
      ? listeners.find(({ port }) => port === binding.port)
      : binding?.protocol === 'PROXY'
        ? listeners.find(({ protocol }) => protocol === PROXY_LISTENER)
        : undefined;
  const listener =
    bound ?? listeners.find(({ protocol, port }) => protocol === 'HBONE' && port === HBONE_PORT);
  const namespaces = listener?.allowedRoutes?.namespaces;
  if (namespaces?.from === 'All') return { from: 'All' };
  if (namespaces?.from !== 'Selector') return { from: 'Same' };
  return {
    from: 'Selector',
    ...(namespaces.selector === undefined ? {} : { selector: namespaces.selector }),
  };
}
