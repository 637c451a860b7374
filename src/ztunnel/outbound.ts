// The story of one outbound connection: who is the source, where does it go, open, copy, record (ztunnel.md §6.1).
// The decision itself is model/route.ts, opening what was decided open-route.ts; this file only puts them in order.

import type { Random } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { HboneStream } from '#hbone/hbone.ts';
import { formatSpiffeId } from '#model/identity.ts';
import { type Route, type RouteRequest, route } from '#model/route.ts';
import type { Store } from '#model/store.ts';
import { pickResolved } from '#model/upstream.ts';
import type { Workload, WorkloadUid } from '#model/workload.ts';
import { formatSocketAddress, type OriginalDst, type SocketAddress } from '#net/host-port.ts';
import { type IpAddress, isLoopback } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import type { CapturedAddresses } from './capture/capture.ts';
import type { Connections, ConnectionView } from './connections.ts';
import type { Traceparents } from './headers.ts';
import type { LocalWorkload } from './local-workload.ts';
import { type OpenableRoute, type OpenRouteDeps, type Origin, openRoute } from './open-route.ts';
import { identityOf } from './pods.ts';
import { ProxiedConnection } from './proxied.ts';
import type { ConnectionFacts, Telemetry } from './record.ts';
import type { ResolveHostname } from './resolve.ts';

export interface OutboundDeps extends OpenRouteDeps {
  readonly store: Store;
  readonly local: LocalWorkload;
  readonly connections: Connections;
  readonly telemetry: Telemetry;
  readonly traceparents: Traceparents;
  readonly log: Logger;
  readonly random: Random;
  readonly resolve: ResolveHostname;
  /** Counts the look-ups that connections needed. */
  readonly onLookup: (source: Workload, hostname: string) => void;
  /** On-demand xDS: makes the store know what the decision will look up. */
  readonly prepare: ((source: Workload, destination: IpAddress) => Promise<void>) | undefined;
}

export interface OutboundOptions {
  readonly network: string;
  /** Ports of the proxy itself; on loopback they would be a loop. */
  readonly illegalPorts: ReadonlySet<number>;
}

/** Takes `opener` over; never rejects: every refusal and failure ends in the access log. */
export async function serveOutbound(
  deps: OutboundDeps,
  options: OutboundOptions,
  opener: HboneStream,
  { peer, originalDst }: CapturedAddresses,
): Promise<void> {
  const refuse = (error: MeshError): void => {
    opener.reset('CANCEL');
    deps.telemetry.refused({ direction: 'outbound', src: peer, dst: originalDst, error });
  };
  if (isLoopback(originalDst.ip) && options.illegalPorts.has(originalDst.port))
    return refuse(new MeshError('NO_ROUTE', 'attempted recursive call to ourselves'));
  let request: RouteRequest;
  let decision: OpenableRoute;
  try {
    const source = await deps.local.get();
    if (deps.prepare !== undefined) await deps.prepare(source, originalDst.ip);
    const { network } = options;
    const { store: view, random } = deps;
    request = { view, network, source, downstreamIp: peer.ip, originalDst, random };
    const first = route(request);
    decision = isOpenable(first) ? first : await settle(deps, request, first);
  } catch (error) {
    return refuse(MeshError.from(error, 'NO_ROUTE', 'deciding where the connection goes failed'));
  }
  await serve(deps, opener, peer, request, decision);
}

/** Opens what was decided; if that fails, once more with another endpoint. No byte of the application is taken before. */
async function serve(
  deps: OutboundDeps,
  opener: HboneStream,
  peer: SocketAddress,
  request: RouteRequest,
  first: OpenableRoute,
): Promise<void> {
  const { pod, telemetry, log } = deps;
  const { source, originalDst } = request;
  const own = identityOf(pod, source);
  const origin: Origin = {
    source,
    baggage: deps.local.baggageOf(source),
    own,
    peer,
    network: request.network,
    traceparent: deps.traceparents.next(),
  };
  const record = telemetry.opened(factsOf(origin, first));
  const connection = new ProxiedConnection(deps.connections, record, {
    podUid: pod.uid,
    direction: 'outbound',
    view: () => viewOf(peer, originalDst, first),
    judgedUnder: deps.store.configVersion,
  });
  connection.undo(() => opener.reset('CANCEL'));
  const open = (decision: OpenableRoute): Promise<HboneStream> =>
    openRoute(deps, origin, decision, connection, record);
  try {
    connection.start(opener, await open(first));
    return;
  } catch (error) {
    const failure = MeshError.from(error, 'CONNECT_FAILED', 'opening the connection failed');
    const second = connection.isOver ? undefined : await another(deps, request, first, failure);
    if (second === undefined) return connection.close(failure);
    // It may have ended while a name was looked up.
    if (connection.isOver) return;
    const { message } = failure;
    log.info('trying another endpoint', { failed: first.dial.ip, next: second.dial.ip, error: message });
    connection.view = () => viewOf(peer, originalDst, second);
    record.retry(factsOf(origin, second), failure);
    try {
      connection.start(opener, await open(second));
    } catch (again) {
      connection.close(MeshError.from(again, 'CONNECT_FAILED', 'opening the connection failed'));
    }
  }
}

function isOpenable(decision: Route): decision is OpenableRoute {
  return decision.kind !== 'refuse' && decision.kind !== 'resolve';
}

/** Looks up the names that a decision needs. @throws MeshError NO_ROUTE when it comes to nothing. */
async function settle(
  { resolve, random, onLookup }: OutboundDeps,
  { source }: RouteRequest,
  decision: Route,
): Promise<OpenableRoute> {
  let at = decision;
  while (at.kind === 'resolve') {
    onLookup(source, at.hostname);
    at = at.withAddress(pickResolved(await resolve(at.hostname), at.target, random)!);
  }
  if (at.kind === 'refuse') throw new MeshError('NO_ROUTE', at.explain, { details: { reason: at.reason } });
  return at;
}

/** Where else the connection may go after a failure; undefined when that would not help or there is nowhere else. */
async function another(
  deps: OutboundDeps,
  request: RouteRequest,
  tried: OpenableRoute,
  failure: MeshError,
): Promise<OpenableRoute | undefined> {
  if (tried.kind === 'passthrough' || !mayHelp(failure)) return undefined;
  const avoid: ReadonlySet<WorkloadUid> = new Set([tried.destination.uid]);
  const decision = route({ ...request, avoid });
  if (decision.kind === 'refuse' || decision.kind === 'passthrough') return undefined;
  // Behind a gateway of another network there may be more endpoints than one: it chooses for every connection.
  const isElsewhere = decision.destination.uid !== tried.destination.uid || decision.kind === 'double-hbone';
  if (!isElsewhere) return undefined;
  try {
    return isOpenable(decision) ? decision : await settle(deps, request, decision);
  } catch {
    // The first failure is the one to tell.
    return undefined;
  }
}

/** Everything that speaks of this endpoint only. A refusal by policy, or our own lack of a certificate, stands. */
function mayHelp({ code, details }: MeshError): boolean {
  switch (code) {
    case 'CONNECT_FAILED':
    case 'CONNECT_TIMEOUT':
    case 'TLS_HANDSHAKE_FAILED':
    case 'PEER_IDENTITY_MISMATCH':
    case 'HBONE_PROTOCOL':
    case 'HBONE_PEER_SILENT':
      return true;
    case 'HBONE_REFUSED':
      return details.status === 503;
    default:
      return false;
  }
}

function factsOf({ peer, source, own, traceparent }: Origin, decision: OpenableRoute): ConnectionFacts {
  const isTunnel = decision.kind === 'hbone' || decision.kind === 'double-hbone';
  return {
    direction: 'outbound',
    src: peer,
    dst: decision.dial,
    hboneAuthority: isTunnel ? decision.authority : undefined,
    source,
    sourceIdentity: isTunnel ? own : undefined,
    destination: decision.kind === 'passthrough' ? undefined : decision.destination,
    destinationIdentity: isTunnel ? formatSpiffeId(decision.destination) : undefined,
    // What passes through is nobody's traffic, as the field counts it.
    service: decision.kind === 'passthrough' ? undefined : decision.service,
    isSecured: isTunnel,
    traceparent: isTunnel ? traceparent : undefined,
    ...(decision.kind === 'double-hbone' ? { isFarEndAwaited: true } : {}),
  };
}

function viewOf(
  peer: SocketAddress,
  originalDst: OriginalDst,
  { kind, dial }: OpenableRoute,
): ConnectionView {
  return {
    src: formatSocketAddress(peer),
    originalDst: formatSocketAddress(originalDst),
    actualDst: formatSocketAddress(dial),
    protocol: kind === 'double-hbone' ? 'DOUBLEHBONE' : kind === 'hbone' ? 'HBONE' : 'TCP',
  };
}
