// With an on-demand subscription the store knows only what was asked for. Before an outbound connection is decided upon,
// this asks for what the decision will look up: the destination, then the waypoints and gateways on the way
// (ztunnel.md §3.3). An unanswered question is no answer: passing through could send in plaintext what belongs in a tunnel.

import { MeshError } from '#base/errors.ts';
import type { StoreView } from '#model/store.ts';
import { type GatewayRef, serviceKey, type Workload } from '#model/workload.ts';
import { parseHostPort } from '#net/host-port.ts';
import type { IpAddress } from '#net/ip.ts';
import type { DemandOutcome } from '#xds/demands.ts';

export interface OnDemandDeps {
  readonly view: StoreView;
  readonly demand: (name: string) => Promise<DemandOutcome>;
  /** The network of this proxy. */
  readonly network: string;
}

/** Resolves when everything has been answered. Rejects with MeshError XDS_SILENT or XDS_RESOURCE_REJECTED. */
export async function prepareOutbound(
  { view, demand, network }: OnDemandDeps,
  source: Workload,
  destination: IpAddress,
): Promise<void> {
  const ask = (name: string): Promise<void> => askFor(demand, name);
  const find = (): readonly [Workload | undefined, ReturnType<StoreView['serviceByVip']>] => [
    view.workloadByIp(network, destination),
    view.serviceByVip(network, destination, source.namespace),
  ];
  let [workload, entry] = find();
  if (workload === undefined && entry === undefined) {
    await ask(`${network}/${destination}`);
    [workload, entry] = find();
  }
  const references = new Map<string, GatewayRef>();
  const note = (reference: GatewayRef | undefined): void => {
    if (reference !== undefined) references.set(nameOf(reference), reference);
  };
  note(workload?.waypoint);
  note(entry?.service.waypoint);
  for (const weighted of entry?.service.weightedWaypoints ?? []) note(weighted.destination);
  for (const endpoint of [workload, ...(entry?.endpoints.values() ?? [])])
    if (endpoint !== undefined && endpoint.network !== source.network) note(endpoint.networkGateway);
  await Promise.all(
    [...references].filter(([, reference]) => !isKnown(view, reference, source)).map(([name]) => ask(name)),
  );
}

/**
 * For a tunnel to a host name, which stands for a service (ztunnel.md §7.2): asks for it in the namespace that a Kubernetes
 * name says, else in the workload's own. Resolves and rejects as above.
 */
export async function prepareInbound(
  { view, demand, clusterDomain }: Pick<OnDemandDeps, 'view' | 'demand'> & { readonly clusterDomain: string },
  local: Workload,
  authority: string,
): Promise<void> {
  const parsed = parseHostPort(authority);
  if (parsed?.kind !== 'host' || view.servicesByHostname(parsed.host).length > 0) return;
  const suffix = `.svc.${clusterDomain}`;
  const labels = parsed.host.endsWith(suffix) ? parsed.host.slice(0, -suffix.length).split('.') : [];
  const namespace = labels.length === 2 ? labels[1]! : local.namespace;
  await askFor(demand, `${namespace}/${parsed.host}`);
}

async function askFor(demand: OnDemandDeps['demand'], name: string): Promise<void> {
  const outcome = await demand(name);
  if (outcome === 'silent')
    throw new MeshError('XDS_SILENT', `the control plane has not said in time what ${name} is`);
  if (outcome === 'refused')
    throw new MeshError('XDS_RESOURCE_REJECTED', `what the control plane says of ${name} cannot be used`);
}

function nameOf({ destination }: GatewayRef): string {
  return destination.kind === 'address'
    ? `${destination.address.network}/${destination.address.ip}`
    : `${destination.namespace}/${destination.hostname}`;
}

function isKnown(view: StoreView, { destination }: GatewayRef, source: Workload): boolean {
  if (destination.kind === 'hostname') {
    const { namespace, hostname } = destination;
    return (
      view.service(serviceKey(namespace, hostname)) !== undefined ||
      view.workloadByHostname(namespace, hostname) !== undefined
    );
  }
  const { network, ip } = destination.address;
  return (
    view.serviceByVip(network, ip, source.namespace) !== undefined ||
    view.workloadByIp(network, ip) !== undefined
  );
}
