// The far side of a tunnel: one CONNECT request on a pod's 15008, checked, judged, connected to the application and
// copied (ztunnel.md §7.1, in the order of its table). TLS and HTTP/2 are hbone/server.ts, the checks model/inbound.ts.

import { MeshError } from '#base/errors.ts';
import type { HboneRequest, HboneStream } from '#hbone/hbone.ts';
import { formatSpiffeId } from '#model/identity.ts';
import { guessService, type InboundDecision, validateInbound } from '#model/inbound.ts';
import type { Store } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import { formatSocketAddress, type Port, type SocketAddress } from '#net/host-port.ts';
import { familyOf, type IpAddress, ip } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import { INBOUND_HBONE_PORT } from './capture/capture.ts';
import type { Connections, InboundSubject } from './connections.ts';
import { dialPlain } from './dial.ts';
import { forwardedHost, parseBaggage } from './headers.ts';
import { judge, policyRejection } from './judge.ts';
import type { LocalWorkload } from './local-workload.ts';
import type { Pod } from './pods.ts';
import { ProxiedConnection } from './proxied.ts';
import { encodeProxyHeader } from './proxy-header.ts';
import type { Telemetry } from './record.ts';
import type { TcpEnd, TcpIo } from './tcp.ts';

export interface InboundDeps {
  readonly pod: Pod;
  readonly store: Store;
  readonly local: LocalWorkload;
  readonly io: TcpIo;
  readonly connections: Connections;
  readonly telemetry: Telemetry;
  readonly log: Logger;
  readonly policyInfoLogging: boolean;
  /** On-demand xDS: makes the store know the service of a tunnel to a host name. */
  readonly prepareInbound?: ((local: Workload, authority: string) => Promise<void>) | undefined;
}

export interface InboundOptions {
  readonly network: string;
  readonly illegalPorts: ReadonlySet<number>;
  readonly responseBaggage: boolean;
  /** Applications with a PROXY tunnel listen on loopback, where nobody reaches them past the proxy. */
  readonly localhostTunnel: boolean;
}

const LOOPBACK_V4 = ip('127.0.0.1');
const LOOPBACK_V6 = ip('::1');

type Target = Extract<InboundDecision, { kind: 'target' }>;

/** Answers the request exactly once; never rejects. `connectionIp` is what the tunnel was addressed to: the pod. */
export async function serveInbound(
  deps: InboundDeps,
  options: InboundOptions,
  request: HboneRequest,
  connectionIp: IpAddress,
): Promise<void> {
  const { telemetry, store } = deps;
  const dst: SocketAddress = { ip: connectionIp, port: INBOUND_HBONE_PORT as Port };
  const answer = new Answer(request);
  const refuse = (status: 400 | 503, error: MeshError): void => {
    answer.refuse(status);
    telemetry.refused({ direction: 'inbound', src: request.peer.address, dst, error });
  };
  let local: Workload;
  try {
    local = await deps.local.get();
    await deps.prepareInbound?.(local, request.authority);
  } catch (error) {
    return refuse(503, MeshError.from(error, 'WORKLOAD_UNKNOWN', 'the local workload is unknown'));
  }
  const decision = validateInbound({
    view: store,
    network: options.network,
    local,
    connectionIp,
    authority: request.authority,
    illegalPorts: options.illegalPorts,
  });
  if (decision.kind === 'refuse')
    return refuse(
      decision.status,
      new MeshError('NO_ROUTE', decision.explain, { details: { reason: decision.reason } }),
    );
  const connection = register(deps, options, request, local, dst, decision);
  connection.undo(() => answer.refuse(503));
  answer.onAbort(() =>
    connection.close(new MeshError('CONNECT_FAILED', 'the client gave up before the application answered')),
  );
  const denial = judge(deps, local, connection.subject!);
  if (denial !== undefined) {
    answer.refuse(401);
    return connection.close(policyRejection(denial));
  }
  let application: TcpEnd;
  try {
    const { target, source } = applicationOf(options, decision, request.peer.address.ip);
    application = await dialPlain({ capture: deps.pod.capture, io: deps.io }, target, connection, source);
  } catch (error) {
    return connection.close(MeshError.from(error, 'CONNECT_FAILED', 'connecting to the application failed'));
  }
  const headers: Record<string, string> = options.responseBaggage
    ? { baggage: deps.local.baggageOf(local) }
    : {};
  const stream = connection.isOver ? undefined : answer.accept(headers);
  if (stream === undefined) return application.reset('CANCEL');
  const { address, identity } = request.peer;
  if (decision.proxyDestination !== undefined)
    application.write(encodeProxyHeader(address, decision.proxyDestination, identity));
  connection.start(stream, application);
}

/** Where the application is, and as whom it sees the connection come (ztunnel.md §7.4). */
function applicationOf(
  { localhostTunnel }: InboundOptions,
  { target, proxyDestination }: Target,
  peer: IpAddress,
): { readonly target: SocketAddress; readonly source: IpAddress | undefined } {
  if (proxyDestination === undefined || !localhostTunnel)
    return { target, source: sourceFor(peer, target.ip) };
  // The client stands in the PROXY header. To loopback from elsewhere, the kernel would drop the packets.
  const loopback = familyOf(target.ip) === 4 ? LOOPBACK_V4 : LOOPBACK_V6;
  return { target: { ip: loopback, port: target.port }, source: undefined };
}

function register(
  { pod, store, connections, telemetry }: InboundDeps,
  options: InboundOptions,
  request: HboneRequest,
  local: Workload,
  dst: SocketAddress,
  decision: Target,
): ProxiedConnection {
  const { peer, headers } = request;
  const host = forwardedHost(headers.forwarded);
  const service = decision.service ?? guessService(store, local, decision.target.port, host);
  const network = headers['x-forwarded-network'];
  const isFromGateway = network !== undefined && network.toLowerCase() !== options.network.toLowerCase();
  const source = isFromGateway ? undefined : store.workloadByIp(options.network, peer.address.ip);
  const record = telemetry.opened({
    direction: 'inbound',
    src: peer.address,
    dst,
    hboneAuthority: request.authority,
    source,
    ...(source === undefined && options.responseBaggage
      ? { sourceBaggage: parseBaggage(headers.baggage) }
      : {}),
    sourceIdentity: peer.identity,
    destination: local,
    destinationIdentity: formatSpiffeId(local),
    service: service?.service,
    isSecured: true,
    traceparent: headers.traceparent,
  });
  const subject: InboundSubject = {
    podUid: pod.uid,
    sourceIdentity: peer.identity,
    source: peer.address,
    destination: decision.target,
  };
  return new ProxiedConnection(connections, record, {
    podUid: pod.uid,
    direction: 'inbound',
    view: () => ({
      src: formatSocketAddress(peer.address),
      originalDst: host ?? null,
      actualDst: formatSocketAddress(decision.target),
      protocol: peer.identity === undefined ? 'TCP' : 'HBONE',
    }),
    subject,
    judgedUnder: store.configVersion,
  });
}

/** The application sees the real client, except when that would make it talk to itself (ztunnel.md §7.4). */
export function sourceFor(peer: IpAddress, target: IpAddress): IpAddress | undefined {
  return peer === target ? undefined : peer;
}

/** Exactly one answer, or none when the peer gave up. */
class Answer {
  readonly #request: HboneRequest;
  #isOpen = true;

  constructor(request: HboneRequest) {
    this.#request = request;
  }

  onAbort(run: () => void): void {
    this.#request.onAbort(() => {
      if (!this.#isOpen) return;
      this.#isOpen = false;
      run();
    });
  }

  refuse(status: 400 | 401 | 503): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#request.refuse(status);
  }

  accept(headers: Record<string, string>): HboneStream | undefined {
    if (!this.#isOpen) return undefined;
    this.#isOpen = false;
    return this.#request.accept(headers);
  }
}
