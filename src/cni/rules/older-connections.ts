// Connections of a pod that are older than its enrolment. The rules redirect the first packet of every connection that
// the kernel does not know, and before the enrolment it knew none: so each open connection is entered as a known one
// just before, and lives on in plaintext instead of being reset. A connection that the kernel forgets afterwards is
// reset, as everything unknown: nothing else gets past ztunnel.
//
// Which connections are older needs no memory of ours: they are those that ztunnel would carry and that are not
// redirected. The kernel knows both.

import { type Flow, type FlowEnd, forgetFlows, listFlows, trackConnections } from '#linux/conntrack.ts';
import { closeTcpSockets, listTcpSockets, type TcpSocket } from '#linux/tcp-sockets.ts';
import { type IpAddress, isLoopback } from '#net/ip.ts';
import {
  CONNECTING_MARK,
  DNS_PORT,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  MARK_MASK,
  OUTBOUND_PORT,
  PROBE_SOURCE_V4,
  PROBE_SOURCE_V6,
  PROXIED_MARK,
  ZTUNNEL_MARK,
} from '../constants.ts';

export interface OlderConnection {
  readonly direction: 'inbound' | 'outbound';
  readonly local: FlowEnd;
  readonly remote: FlowEnd;
  readonly socket: TcpSocket;
}

/** Connections that ztunnel would carry, had they begun after the enrolment. Pure. */
export function carriedConnections(sockets: readonly TcpSocket[]): OlderConnection[] {
  const listening = new Set(sockets.filter(({ state }) => state === 'listening').map((s) => s.localPort));
  // The other end is in the pod as well: ztunnel's, or the application with itself.
  const ends = new Set(
    sockets.map((socket) => keyOf(socket.localIp, socket.localPort, socket.remoteIp, socket.remotePort)),
  );
  const isInside = (socket: TcpSocket): boolean =>
    ends.has(keyOf(socket.remoteIp, socket.remotePort, socket.localIp, socket.localPort));
  return sockets
    .filter((socket) => isCarried(socket) && !isInside(socket))
    .map((socket) => ({
      direction: socket.state === 'accepting' || listening.has(socket.localPort) ? 'inbound' : 'outbound',
      local: { ip: socket.localIp, port: socket.localPort },
      remote: { ip: socket.remoteIp, port: socket.remotePort },
      socket,
    }));
}

function isCarried({ state, localIp, localPort, remoteIp, mark }: TcpSocket): boolean {
  if (state === 'listening' || isZtunnelMark(mark)) return false;
  // The node's probes go past ztunnel.
  if (isLoopback(localIp) || isLoopback(remoteIp)) return false;
  if (remoteIp === PROBE_SOURCE_V4 || remoteIp === PROBE_SOURCE_V6) return false;
  return localPort !== INBOUND_HBONE_PORT;
}

const isZtunnelMark = (mark: number): boolean => (mark & MARK_MASK) === ZTUNNEL_MARK;

/**
 * How many of ztunnel's connections in the pod serve its application (pooled tunnels stay open without any), and how many have
 * been redirected and not yet answered: their first packet is still under way, or will be sent again, to ztunnel's port.
 */
export function servedConnections(netnsFd: number): number {
  // Flows first: one that is answered in between is then there as a socket.
  const coming = listFlows(netnsFd).filter(
    ({ protocol, isRedirected, isAnswered }) => protocol === 'tcp' && isRedirected && !isAnswered,
  ).length;
  const open = listTcpSockets(netnsFd).filter(
    ({ state, mark, localPort, remotePort }) =>
      state !== 'listening' &&
      isZtunnelMark(mark) &&
      localPort !== INBOUND_HBONE_PORT &&
      remotePort !== INBOUND_HBONE_PORT,
  ).length;
  return coming + open;
}

/**
 * To be called before the kernel tracks connections again. It remembers those of an earlier enrolment, for minutes after their
 * end or for days if it did not see that: a connection that has the same addresses and ports by now would be taken for one of
 * them, and hang or go past ztunnel. What rules of the pod's own translate is left alone. Returns how many there were.
 */
export function forgetFormerEnrolment(netnsFd: number): number {
  return forgetFlows(netnsFd, isOfEnrolment);
}

/**
 * To be called when ztunnel carries nothing more of a pod that leaves, before it closes its listeners: a new connection with the
 * ports of one that has ended would be taken for it, and be sent to a closed port. Returns how many there were.
 */
export function forgetEndedConnections(netnsFd: number): number {
  return forgetFlows(netnsFd, (flow) => flow.hasEnded && flow.isRedirected && isOfEnrolment(flow));
}

const isOfEnrolment = ({ protocol, isRedirected, isMasqueraded, answeredBy }: Flow): boolean =>
  isRedirected ? REDIRECTED_TO.has(answeredBy.port) : protocol === 'tcp' && !isMasqueraded;

const REDIRECTED_TO: ReadonlySet<number> = new Set([OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, DNS_PORT]);

/** To be called once the kernel tracks connections and before it redirects any; returns how many there are. */
export function keepOlderConnections(netnsFd: number): number {
  const connections = carriedConnections(listTcpSockets(netnsFd));
  trackConnections(
    netnsFd,
    connections.map(({ direction, local, remote, socket }) => ({
      from: direction === 'outbound' ? local : remote,
      to: direction === 'outbound' ? remote : local,
      ...(socket.state === 'connecting' || socket.state === 'accepting'
        ? { stage: socket.state, mark: CONNECTING_MARK }
        : { stage: 'established' }),
    })),
  );
  return connections.length;
}

/** Those of an enrolled pod that go past ztunnel because they are older. */
export function olderConnections(netnsFd: number): OlderConnection[] {
  const connections = carriedConnections(listTcpSockets(netnsFd));
  if (connections.length === 0) return [];
  // The client's end of a flow tells it from every other, whatever its destination was made into.
  const redirected = new Set(
    listFlows(netnsFd)
      .filter(({ protocol, isRedirected }) => protocol === 'tcp' && isRedirected)
      .flatMap(({ from, to }) => [keyOf(from.ip, from.port, to.ip, to.port)]),
  );
  return connections.filter(
    ({ local, remote }) =>
      !redirected.has(keyOf(local.ip, local.port, remote.ip, remote.port)) &&
      !redirected.has(keyOf(remote.ip, remote.port, local.ip, local.port)),
  );
}

/**
 * Forgets connections past ztunnel that no process of the pod holds any more, though no packet told of their end: their far end
 * lost its power, say. The kernel would remember each for five days, and drop a new one with its addresses and ports until then.
 * What merely passes through the pod has no end at these addresses of it. Returns how many there were.
 */
export function forgetLostConnections(netnsFd: number, podIps: readonly IpAddress[]): number {
  const own = new Set(podIps);
  let held: ReadonlySet<string> | undefined;
  return forgetFlows(netnsFd, ({ protocol, isEstablished, isRedirected, isMasqueraded, from, to }) => {
    if (protocol !== 'tcp' || !isEstablished || isRedirected || isMasqueraded) return false;
    const [local, remote] = own.has(from.ip) ? [from, to] : [to, from];
    // Listed after the flows: whatever was open then and still is has a socket.
    held ??= new Set(
      listTcpSockets(netnsFd).map((s) => keyOf(s.localIp, s.localPort, s.remoteIp, s.remotePort)),
    );
    return own.has(local.ip) && !held.has(keyOf(local.ip, local.port, remote.ip, remote.port));
  });
}

/**
 * Ends the application's side of every connection that is not known to go its own way: redirected, carried by ztunnel to the
 * application, or forgotten by the kernel. To be called before the rules are removed: without them the next packet of such a
 * connection would leave the pod as it is, readable. Returns how many there were.
 */
export function cutCarriedConnections(netnsFd: number): number {
  // Sockets first: the flow of each is then there to be read.
  const carried = listTcpSockets(netnsFd).filter(isCarried);
  if (carried.length === 0) return 0;
  const own = new Set(
    listFlows(netnsFd)
      .filter(
        ({ protocol, isRedirected, mark }) =>
          protocol === 'tcp' && !isRedirected && (mark & MARK_MASK) !== PROXIED_MARK,
      )
      .map(({ from, to }) => keyOf(from.ip, from.port, to.ip, to.port)),
  );
  const cut = carried.filter(
    ({ localIp, localPort, remoteIp, remotePort }) =>
      !own.has(keyOf(localIp, localPort, remoteIp, remotePort)) &&
      !own.has(keyOf(remoteIp, remotePort, localIp, localPort)),
  );
  closeTcpSockets(netnsFd, cut);
  return cut.length;
}

/** Both ends see a reset; well-behaved clients connect again, and then through ztunnel. */
export function closeOlderConnections(netnsFd: number, connections: readonly OlderConnection[]): void {
  closeTcpSockets(
    netnsFd,
    connections.map(({ socket }) => socket),
  );
}

const keyOf = (fromIp: IpAddress, fromPort: number, toIp: IpAddress, toPort: number): string =>
  `${fromIp} ${fromPort} ${toIp} ${toPort}`;
