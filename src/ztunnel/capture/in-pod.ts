// In-pod capture, the default: listeners made inside each pod's network namespace, where the CNI agent's rules redirect
// the pod's connections to. The sockets keep that namespace; the code that serves them runs in ztunnel's own.

import { MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import { closeFd, dupFd } from '#linux/netns.ts';
import { originalDst } from '#linux/original-dst.ts';
import { listenTcp, setUserTimeout, tcpSocket } from '#linux/socket.ts';
import { acceptFrom, TcpHandle, type TcpListener } from '#linux/tcp-handle.ts';
import type { SocketAddress } from '#net/host-port.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import type { KeepaliveConfig } from '../config.ts';
import {
  type CapturedConnection,
  type CaptureNeeds,
  type CaptureShare,
  type Direction,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  type OpenCapture,
  OUTBOUND_PORT,
  type PodCapture,
  type PodNetns,
  type SharedListener,
  SOCKS5_PORT,
} from './capture.ts';
import type { DescriptorGuard } from './descriptor-guard.ts';
import { type DnsListenAddress, openPodDns } from './in-pod-dns.ts';
import type { ListenerStock, PodListener } from './listener-stock.ts';

export interface InPodOptions {
  readonly packetMark: number | undefined;
  readonly ipv6: boolean;
  readonly reusePort: boolean;
  readonly originalSource: 'required' | 'best-effort' | 'never';
  /** Undefined: no DNS proxy. */
  readonly dnsProxy: DnsListenAddress | undefined;
  /** Undefined: no TCP keepalive. */
  readonly keepalive: KeepaliveConfig | undefined;
  readonly socks5: boolean;
}

const BACKLOG = 128;
const OUT_OF_DESCRIPTORS: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE']);

interface Listener {
  readonly direction: Direction;
  readonly port: number;
  /** Of every address unless given. */
  readonly ip?: string;
}

/** Inbound first: a pod that is reachable before it can send misses nothing. */
const LISTENERS: readonly Listener[] = [
  { direction: 'inbound-hbone', port: INBOUND_HBONE_PORT },
  { direction: 'inbound-plaintext', port: INBOUND_PLAINTEXT_PORT },
  { direction: 'outbound', port: OUTBOUND_PORT },
];
/** As the field's: of one family, for the pod's own programs. */
const SOCKS5_LISTENER: Listener = { direction: 'socks5', port: SOCKS5_PORT, ip: '127.0.0.1' };

export interface InPodDeps {
  readonly log: Logger;
  readonly scope: Scope;
  /** Where listeners come from and go to in an upgrade. */
  readonly stock?: ListenerStock;
  /** Absent: whatever the kernel gives is taken. */
  readonly descriptors?: DescriptorGuard;
}

/** Listeners made with equal settings can stand in for one another. */
export function listenerShape({ packetMark, ipv6, reusePort, originalSource }: InPodOptions): string {
  return `mark=${packetMark} ipv6=${ipv6} reuseport=${reusePort} source=${originalSource}`;
}

export function createInPodCapture(deps: InPodDeps, options: InPodOptions): OpenCapture {
  return (netns, onConnection, { otherThreads, onRefused } = ALONE) => {
    const refuse = (): void => {
      deps.descriptors?.refused();
      onRefused();
    };
    return openInPod(deps, options, netns, { onConnection, refuse }, otherThreads);
  };
}

const ALONE: CaptureNeeds = { otherThreads: 0, onRefused: () => {} };

interface Accepted {
  onConnection(connection: CapturedConnection): void;
  /** Counted and logged; there is no connection to tell of. */
  refuse(): void;
}

function openInPod(
  deps: InPodDeps,
  options: InPodOptions,
  netns: PodNetns,
  accepted: Accepted,
  otherThreads: number,
): PodCapture {
  const { dnsProxy } = options;
  const dns =
    dnsProxy === undefined
      ? undefined
      : openPodDns({ ...options, dnsProxy }, netns, deps.stock, deps.descriptors);
  const closers: (() => void)[] = [];
  const shares = new Shares(netns, otherThreads);
  let isTransparent = options.originalSource !== 'never';
  const closeListeners = (): void => {
    for (const close of closers.splice(0)) close();
    shares.close();
  };
  try {
    for (const wanted of options.socks5 ? [...LISTENERS, SOCKS5_LISTENER] : LISTENERS) {
      const { direction } = wanted;
      for (const [index, listener] of listenersFor(
        deps,
        options,
        netns,
        wanted,
        1 + otherThreads,
      ).entries()) {
        if (!listener.transparent) isTransparent = false;
        const forget = deps.stock?.keep(listener);
        const thread = index % (1 + otherThreads);
        if (thread > 0) {
          shares.add(thread - 1, listener);
          closers.push(() => forget?.());
          continue;
        }
        const server = serve(deps, options, listener.fd, direction, accepted);
        closers.push(() => {
          forget?.();
          server.close();
        });
      }
    }
  } catch (error) {
    closeListeners();
    dns?.close();
    throw MeshError.from(error, 'SYSCALL_FAILED', 'binding the pod listeners');
  }
  return {
    open: openFrom(deps, options, netns, () => isTransparent),
    ...(dns === undefined ? {} : { dns }),
    takeShares: () => shares.take(),
    closeListeners,
  };
}

/** What goes to the other threads; closed here unless it is taken. */
class Shares {
  readonly #netns: PodNetns;
  #listeners: SharedListener[][];

  constructor(netns: PodNetns, count: number) {
    this.#netns = netns;
    this.#listeners = Array.from({ length: count }, () => []);
  }

  add(share: number, { port, fd, transparent }: PodListener): void {
    this.#listeners[share]!.push({ port, fd, transparent });
  }

  take(): CaptureShare[] {
    const { id: netnsId, fd } = this.#netns;
    const copies: number[] = [];
    try {
      while (copies.length < this.#listeners.length) copies.push(dupFd(fd));
    } catch (error) {
      for (const copy of copies) closeFd(copy);
      throw error;
    }
    return this.#listeners
      .splice(0)
      .map((listeners, share) => ({ netnsId, netnsFd: copies[share]!, listeners }));
  }

  close(): void {
    for (const { fd } of this.#listeners.splice(0).flat()) closeFd(fd);
  }
}

/** The predecessor's sockets, and as many more as threads need one of their own. None is left open if one fails. */
function listenersFor(
  { stock }: InPodDeps,
  options: InPodOptions,
  netns: PodNetns,
  wanted: Listener,
  threads: number,
): PodListener[] {
  const { port } = wanted;
  // Those of a predecessor: both accept from one queue until it closes its own.
  const listeners = stock?.take(netns.id, port) ?? [];
  try {
    while (listeners.length < threads) {
      const [first] = listeners;
      // Without SO_REUSEPORT there is one queue, from which every thread takes.
      const isShared = first !== undefined && !options.reusePort;
      const made = isShared ? { ...first, fd: dupFd(first.fd) } : bind(options, netns, wanted);
      listeners.push({ ...made, netnsId: netns.id, port });
    }
    return listeners;
  } catch (error) {
    for (const { fd } of listeners) closeFd(fd);
    throw error;
  }
}

function bind(
  options: InPodOptions,
  netns: PodNetns,
  { port, ip = options.ipv6 ? '::' : '0.0.0.0' }: Listener,
): { fd: number; transparent: boolean } {
  return listenTcp({
    ip,
    port,
    netnsFd: netns.fd,
    ...marked(options),
    ...(options.originalSource === 'never' ? {} : { transparent: options.originalSource }),
    reusePort: options.reusePort,
    backlog: BACKLOG,
  });
}

/** Accepts from a listening descriptor. Bound already, so nothing asynchronous decides about success. */
function serve(
  { log, descriptors }: InPodDeps,
  options: InPodOptions,
  fd: number,
  direction: Direction,
  { onConnection, refuse }: Accepted,
): TcpListener {
  // h2 pings watch over tunnels; TCP keepalive is for the other two (ztunnel.md §9.5).
  const keepalive = direction === 'inbound-hbone' ? undefined : options.keepalive;
  if (keepalive?.userTimeoutMs !== undefined) setUserTimeout(fd, keepalive.userTimeoutMs);
  return acceptFrom(
    fd,
    keepalive,
    (handle) => {
      if (descriptors?.isFull(handle.fd) === true) {
        refuse();
        handle.reset();
        return;
      }
      const captured = describe(handle, direction);
      if (captured !== undefined) return onConnection(captured);
      // The peer is gone already; the kernel no longer knows its address.
      log.debug('connection dropped before its addresses were read', { direction });
      handle.close();
    },
    (errno) => {
      // One for each connection that waits: libuv takes and drops them with a descriptor that it keeps for this.
      if (OUT_OF_DESCRIPTORS.has(errno)) refuse();
      else log.error('accept failed', { direction, error: `accept ${errno}` });
    },
  );
}

function describe(handle: TcpHandle, direction: Direction): CapturedConnection | undefined {
  const { peer } = handle;
  if (peer === undefined) return undefined;
  // A tunnel is meant for us; the others were redirected (or, under TPROXY, carry their destination as local address).
  const redirected = direction === 'inbound-hbone' ? undefined : originalDst(handle.fd);
  const destination = redirected ?? handle.local;
  return destination && { direction, handle, peer, originalDst: destination };
}

function marked({ packetMark }: InPodOptions): { readonly mark?: number } {
  return packetMark === undefined ? {} : { mark: packetMark };
}

function openFrom(
  { log, descriptors }: InPodDeps,
  options: InPodOptions,
  netns: PodNetns,
  mayKeepSource: () => boolean,
): PodCapture['open'] {
  const { keepalive } = options;
  const socket = (destination: SocketAddress, source: IpAddress | undefined): number =>
    tcpSocket({
      family: familyOf(destination.ip),
      netnsFd: netns.fd,
      ...marked(options),
      ...(source === undefined ? {} : { bindSource: { ip: source } }),
    });
  return (destination, source) => {
    const wanted = source !== undefined && mayKeepSource() ? source : undefined;
    let fd: number;
    try {
      fd = socket(destination, wanted);
    } catch (error) {
      if (wanted === undefined) throw error;
      // As the peers do: the application then sees the pod's own address as its client.
      log.warn('cannot keep the source address', { source: wanted, error: reasonOf(error) });
      fd = socket(destination, undefined);
    }
    try {
      descriptors?.check(fd);
      if (keepalive?.userTimeoutMs !== undefined) setUserTimeout(fd, keepalive.userTimeoutMs);
      const handle = TcpHandle.adopt(fd);
      handle.configure(keepalive);
      return handle;
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  };
}
