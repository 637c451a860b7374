// Which endpoint of a service takes a connection, and on which port (ztunnel.md §6.4). Pure: chance comes in.

import type { Random } from '#base/clock.ts';
import type { LoadBalancing, LoadBalancingScope } from './service.ts';
import type { ServiceEntry } from './service-index.ts';
import type { Workload, WorkloadUid } from './workload.ts';

export interface Choice {
  readonly workload: Workload;
  /** Where the chosen workload listens for the service's port. */
  readonly port: number;
}

/** A waypoint may serve a port its service does not define, through its application tunnel. */
export type SelectionMode = 'standard' | 'waypoint';

/** The explanation is for an operator: which of the steps left nobody. */
export type Selection =
  | { readonly kind: 'chosen'; readonly choice: Choice }
  | { readonly kind: 'none'; readonly explain: string };

/** `avoid`: endpoints that failed a moment ago; they are chosen only when nobody else can be. */
export function selectEndpoint(
  entry: ServiceEntry,
  port: number,
  source: Workload,
  mode: SelectionMode,
  random: Random,
  avoid?: ReadonlySet<WorkloadUid>,
): Selection {
  const { service } = entry;
  const targetPort = service.ports.get(port);
  if (mode === 'standard' && targetPort === undefined) return none(`the service has no port ${port}`);
  const lenient = service.loadBalancer?.healthPolicy === 'AllowAll';
  const candidates: Workload[] = [];
  let healthy = 0;
  for (const workload of entry.endpoints.values()) {
    if (!lenient && workload.status !== 'Healthy') continue;
    healthy++;
    if (!reachable(workload, source)) continue;
    const mapped = mappedPort(entry, workload, port);
    if (mode === 'standard' && targetPort === 0 && mapped === undefined) continue;
    if (mode === 'waypoint' && targetPort === undefined && workload.applicationTunnel === undefined) continue;
    candidates.push(workload);
  }
  if (candidates.length === 0) return none(whyNobody(entry, healthy, port));
  const others = avoid === undefined ? candidates : candidates.filter(({ uid }) => !avoid.has(uid));
  const selection = selectFrom(others, entry, port, source, random);
  // One that has just failed is better than none.
  if (selection.kind === 'chosen' || others.length === candidates.length) return selection;
  return selectFrom(candidates, entry, port, source, random);
}

function selectFrom(
  candidates: readonly Workload[],
  entry: ServiceEntry,
  port: number,
  source: Workload,
  random: Random,
): Selection {
  const group = bestGroup(candidates, source, entry.service.loadBalancer);
  if (group.length === 0) return none('no endpoint matches every scope of its strict routing preference');
  const workload = weighted(group, (candidate) => candidate.capacity, random);
  if (workload === undefined) return none('every endpoint has capacity 0');
  const chosenPort = portOf(entry, workload, port);
  if (chosenPort === undefined) return none(`endpoint ${workload.uid} has no target for port ${port}`);
  return { kind: 'chosen', choice: { workload, port: chosenPort } };
}

/** One of the items in proportion to its weight; undefined when all weigh nothing. */
export function weighted<T>(
  items: readonly T[],
  weightOf: (item: T) => number,
  random: Random,
): T | undefined {
  let total = 0;
  for (const item of items) total += weightOf(item);
  if (total <= 0) return undefined;
  let left = random() * total;
  let last: T | undefined;
  for (const item of items) {
    const weight = weightOf(item);
    if (weight <= 0) continue;
    last = item;
    left -= weight;
    if (left < 0) return item;
  }
  // Rounding can leave a crumb.
  return last;
}

function none(explain: string): Selection {
  return { kind: 'none', explain };
}

function whyNobody(entry: ServiceEntry, healthy: number, port: number): string {
  if (entry.endpoints.size === 0) return 'the service has no endpoints';
  if (healthy === 0) return `none of its ${entry.endpoints.size} endpoints is healthy`;
  return `none of its ${healthy} healthy endpoints has an address and a target for port ${port}`;
}

/** Without an address, only a gateway of another network can reach a workload. */
function reachable(workload: Workload, source: Workload): boolean {
  if (workload.ips.length > 0 || workload.hostname !== '') return true;
  return workload.network !== source.network && workload.networkGateway !== undefined;
}

/** A mapping to 0 is none. */
function mappedPort(entry: ServiceEntry, workload: Workload, port: number): number | undefined {
  return workload.services.get(entry.key)?.get(port) || undefined;
}

function portOf(entry: ServiceEntry, workload: Workload, port: number): number | undefined {
  const mapped = mappedPort(entry, workload, port) ?? (entry.service.ports.get(port) || undefined);
  if (mapped !== undefined) return mapped;
  return workload.applicationTunnel?.port === undefined ? undefined : port;
}

function bestGroup(
  candidates: readonly Workload[],
  source: Workload,
  loadBalancer: LoadBalancing | undefined,
): readonly Workload[] {
  const scopes = loadBalancer?.routingPreferences ?? [];
  switch (loadBalancer?.mode) {
    case 'Strict':
      return candidates.filter((candidate) => scopes.every((scope) => sameScope(scope, candidate, source)));
    // A waypoint or gateway by host name is balanced even when its service asks for passthrough; its preferences hold.
    case 'Passthrough':
    case 'Failover': {
      let best = -1;
      let group: Workload[] = [];
      for (const candidate of candidates) {
        const rank = failoverRank(candidate, source, scopes);
        if (rank > best) [best, group] = [rank, [candidate]];
        else if (rank === best) group.push(candidate);
      }
      return group;
    }
    default:
      return candidates;
  }
}

/**
 * Leading scopes matched. When NETWORK comes first it is preferred, not required: a mismatch goes on without counting,
 * and a match counts for all the others too, so that the nearest stranger never outranks a neighbour.
 */
function failoverRank(candidate: Workload, source: Workload, scopes: readonly LoadBalancingScope[]): number {
  let rank = 0;
  for (const [index, scope] of scopes.entries()) {
    const networkFirst = index === 0 && scope === 'Network';
    if (sameScope(scope, candidate, source)) rank += networkFirst ? scopes.length : 1;
    else if (!networkFirst) break;
  }
  return rank;
}

function sameScope(scope: LoadBalancingScope, candidate: Workload, source: Workload): boolean {
  switch (scope) {
    case 'Region':
      return candidate.locality.region === source.locality.region;
    case 'Zone':
      return candidate.locality.zone === source.locality.zone;
    case 'Subzone':
      return candidate.locality.subzone === source.locality.subzone;
    case 'Node':
      return candidate.node === source.node;
    case 'Cluster':
      return candidate.clusterId === source.clusterId;
    case 'Network':
      return candidate.network === source.network;
  }
}
