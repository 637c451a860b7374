// The story of one outbound connection: who is the source, where does it go, open, copy, record (ztunnel.md §6.1).
// The decision itself is model/route.ts; tunnels are hbone/pool.ts; this file only puts them in order.

import type { Random } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { HbonePool, HboneStream } from '#hbone/hbone.ts';
import { formatSpiffeId } from '#model/identity.ts';
import { type Route, route } from '#model/route.ts';
import type { Store } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import { formatSocketAddress, type OriginalDst, type SocketAddress } from '#net/host-port.ts';
import { isLoopback } from '#net/ip.ts';
import type { CapturedAddresses } from './capture/capture.ts';
import type { Connections } from './connections.ts';
import { dialPlain } from './dial.ts';
import { formatBaggage, formatForwarded, newTraceparent } from './headers.ts';
import type { LocalWorkload } from './local-workload.ts';
import type { Pod } from './pods.ts';
import { ProxiedConnection } from './proxied.ts';
import type { Telemetry } from './record.ts';
import type { TcpIo } from './tcp.ts';

export interface OutboundDeps {
  readonly pod: Pod;
  readonly store: Store;
  readonly local: LocalWorkload;
  readonly pool: HbonePool;
  readonly io: TcpIo;
  readonly connections: Connections;
  readonly telemetry: Telemetry;
  readonly random: Random;
}

export interface OutboundOptions {
  readonly network: string;
  /** Ports of the proxy itself; on loopback they would be a loop. */
  readonly illegalPorts: ReadonlySet<number>;
}

type Permitted = Exclude<Route, { kind: 'refuse' }>;

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
  let source: Workload;
  try {
    source = await deps.local.get();
  } catch (error) {
    return refuse(MeshError.from(error, 'WORKLOAD_UNKNOWN', 'the local workload is unknown'));
  }
  const decision = route({
    view: deps.store,
    network: options.network,
    source,
    downstreamIp: peer.ip,
    originalDst,
    random: deps.random,
  });
  if (decision.kind === 'refuse')
    return refuse(new MeshError('NO_ROUTE', decision.explain, { details: { reason: decision.reason } }));

  const connection = register(deps, source, peer, originalDst, decision);
  connection.undo(() => opener.reset('CANCEL'));
  try {
    connection.start(opener, await open(deps, source, peer, decision, connection));
  } catch (error) {
    connection.close(MeshError.from(error, 'CONNECT_FAILED', 'opening the connection failed'));
  }
}

function register(
  { pod, connections, telemetry, store }: OutboundDeps,
  source: Workload,
  peer: SocketAddress,
  originalDst: OriginalDst,
  decision: Permitted,
): ProxiedConnection {
  const isTunnel = decision.kind === 'hbone';
  const destination = decision.kind === 'passthrough' ? undefined : decision.destination;
  const record = telemetry.opened({
    direction: 'outbound',
    src: peer,
    dst: decision.dial,
    hboneAuthority: isTunnel ? decision.authority : undefined,
    source,
    sourceIdentity: isTunnel ? identityOf(pod, source) : undefined,
    destination,
    destinationIdentity: isTunnel ? formatSpiffeId(decision.destination) : undefined,
    service: decision.service,
    isSecured: isTunnel,
  });
  return new ProxiedConnection(connections, record, {
    podUid: pod.uid,
    direction: 'outbound',
    view: {
      src: formatSocketAddress(peer),
      originalDst: formatSocketAddress(originalDst),
      actualDst: formatSocketAddress(decision.dial),
      protocol: isTunnel ? 'HBONE' : 'TCP',
    },
    judgedUnder: store.configVersion,
  });
}

async function open(
  { pod, pool, io }: OutboundDeps,
  source: Workload,
  peer: SocketAddress,
  decision: Permitted,
  connection: ProxiedConnection,
): Promise<HboneStream> {
  if (decision.kind !== 'hbone') return dialPlain({ capture: pod.capture, io }, decision.dial, connection);
  const { stream } = await pool.connect(
    {
      source: identityOf(pod, source),
      expected: decision.expected,
      destination: decision.dial,
      downstreamIp: peer.ip,
    },
    decision.authority,
    {
      baggage: formatBaggage(source),
      forwarded: formatForwarded(peer, decision.service?.hostname),
      traceparent: newTraceparent(),
    },
  );
  return stream;
}

/** Trust domain from the control plane, the rest from the CNI agent: a pod's proxy can be nobody else (ztunnel.md §4.4). */
export function identityOf({ info }: Pod, local: Workload): ReturnType<typeof formatSpiffeId> {
  return formatSpiffeId({ trustDomain: local.trustDomain, ...info });
}
