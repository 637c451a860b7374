// What every way of capturing a pod's connections yields, so that the paths behind it never know how it was done.

import type { DnsSockets } from '#dns/sockets.ts';
import type { TcpHandle } from '#linux/tcp-handle.ts';
import type { OriginalDst, SocketAddress } from '#net/host-port.ts';
import type { IpAddress } from '#net/ip.ts';

export const OUTBOUND_PORT = 15_001;
export const INBOUND_PLAINTEXT_PORT = 15_006;
export const INBOUND_HBONE_PORT = 15_008;
export const SOCKS5_PORT = 15_080;

export type Direction = 'outbound' | 'inbound-plaintext' | 'inbound-hbone' | 'socks5';

export interface CapturedConnection extends CapturedAddresses {
  readonly direction: Direction;
  /** Accepted; nothing has been read. Owned by the receiver from now on. */
  readonly handle: TcpHandle;
}

export interface CapturedAddresses {
  readonly peer: SocketAddress;
  /** Where the application wanted to go; for HBONE the address the tunnel was opened to. */
  readonly originalDst: OriginalDst;
}

/** One pod's side of a capture: its listeners, and sockets that leave from its network. */
export interface PodCapture {
  /**
   * A handle that will connect from the pod's network, marked so that the pod's rules leave it alone. With `source` the
   * connection comes from that address if the kernel lets it (the application then sees the real client).
   */
  open(destination: SocketAddress, source?: IpAddress): TcpHandle;
  /** Absent: the pod's DNS is not served. Closed by whoever takes it. */
  readonly dns?: DnsSockets;
  /** What the other threads need to serve the pod as well, one share each. Once; whoever takes them owns what is in them. */
  takeShares?(): readonly CaptureShare[];
  /** Closes the listening sockets of connections at once; accepted ones, and DNS, are untouched. */
  closeListeners(): void;
}

/** One thread's part of a capture: descriptors, which are the process's and not a thread's, and what they are. */
export interface CaptureShare {
  readonly netnsId: string;
  /** A copy of its own: a number that another thread has closed may by then be another pod's namespace. */
  readonly netnsFd: number;
  readonly listeners: readonly SharedListener[];
}

export interface SharedListener {
  readonly port: number;
  readonly fd: number;
  readonly transparent: boolean;
}

/** The namespace of a pod as handed over by the CNI agent. */
export interface PodNetns {
  /** Equal for equal namespaces (device and inode). */
  readonly id: string;
  readonly fd: number;
  /** Gives the descriptor back. */
  close(): void;
}

export interface CaptureNeeds {
  /** So many more threads get a share. */
  readonly otherThreads: number;
  /** Told of a connection that could not be taken. */
  readonly onRefused: () => void;
}

/**
 * Binds a pod's listeners, those of other threads included, before it returns.
 * @throws MeshError when one cannot be bound; nothing is left open then.
 */
export type OpenCapture = (
  netns: PodNetns,
  onConnection: (connection: CapturedConnection) => void,
  needs?: CaptureNeeds,
) => PodCapture;
