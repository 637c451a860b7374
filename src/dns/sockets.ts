// What serving a pod's DNS needs of the network, so that the code behind it never knows how a pod is captured.

import type dgram from 'node:dgram';
import type net from 'node:net';
import type { SocketAddress } from '#net/host-port.ts';

/** Sockets that leave from the asker's network, marked so that its rules leave them alone. */
export interface UpstreamSockets {
  /** Not connected yet. */
  udp(server: SocketAddress): dgram.Socket;
  /** Connecting. */
  tcp(server: SocketAddress): net.Socket;
}

/** Both kinds of listeners bound already, and silent until someone attaches to them. */
export interface DnsSockets extends UpstreamSockets {
  readonly datagrams: readonly dgram.Socket[];
  readonly listeners: readonly net.Server[];
  /** Closes what listens. Idempotent. */
  close(): void;
}
