// Opens what model/route.ts decided: a plain connection, a tunnel, or a tunnel to a gateway and one more inside it.

import { MeshError } from '#base/errors.ts';
import type { HboneHeaders, HbonePool, HboneStream, HboneTunnel, PoolKey } from '#hbone/hbone.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { Route } from '#model/route.ts';
import type { Workload } from '#model/workload.ts';
import type { SocketAddress } from '#net/host-port.ts';
import { dialPlain } from './dial.ts';
import { formatForwarded, parseBaggage } from './headers.ts';
import type { Pod } from './pods.ts';
import type { ProxiedConnection } from './proxied.ts';
import type { ConnectionRecord } from './record.ts';
import type { TcpIo } from './tcp.ts';

export type OpenableRoute = Exclude<Route, { kind: 'refuse' } | { kind: 'resolve' }>;

/** The inner tunnel through `outer`, which it takes over (hbone/nested.ts). */
export type OpenNested = (
  outer: HboneStream,
  key: PoolKey,
  authority: string,
  headers: HboneHeaders,
) => Promise<HboneTunnel>;

export interface OpenRouteDeps {
  readonly pod: Pod;
  readonly pool: HbonePool;
  readonly openNested: OpenNested;
  readonly io: TcpIo;
}

export interface Origin {
  readonly source: Workload;
  readonly baggage: string;
  readonly own: SpiffeId;
  readonly peer: SocketAddress;
  readonly network: string;
  /** Names the connection in the records of every proxy on its way. */
  readonly traceparent: string;
}

/** Rejects with MeshError, as dial.ts and HbonePool.connect do. */
export async function openRoute(
  deps: OpenRouteDeps,
  origin: Origin,
  decision: OpenableRoute,
  connection: ProxiedConnection,
  record: ConnectionRecord,
): Promise<HboneStream> {
  const { pod, pool, io } = deps;
  if (decision.kind === 'tcp' || decision.kind === 'passthrough')
    return dialPlain({ capture: pod.capture, io }, decision.dial, connection);
  const { own: source, peer } = origin;
  const { expected, dial: destination, authority, service } = decision;
  const key: PoolKey = { source, expected, destination, downstreamIp: peer.ip };
  const headers: HboneHeaders = {
    baggage: origin.baggage,
    forwarded: formatForwarded(peer, service?.hostname),
    traceparent: origin.traceparent,
  };
  const { stream } = await pool.connect(key, authority, headers);
  if (decision.kind === 'hbone') return stream;
  if (connection.isOver) {
    stream.reset('CANCEL');
    throw new MeshError('DRAINED', 'the connection ended before its tunnel was open');
  }
  // The key of one session, not of a pool: whoever is at the inner end is not the gateway's to choose twice.
  const inner = await deps.openNested(stream, { ...key, expected: decision.innerExpected }, authority, {
    ...headers,
    'x-forwarded-network': origin.network,
  });
  record.learn(parseBaggage(inner.headers.baggage), inner.peer.identity);
  return inner.stream;
}
