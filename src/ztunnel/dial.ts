// Opening TCP connections from a pod's network, within the one deadline that all proxied dials share.

import type net from 'node:net';
import { MeshError, reasonOf } from '#base/errors.ts';
import { formatSocketAddress, type SocketAddress } from '#net/host-port.ts';
import type { IpAddress } from '#net/ip.ts';
import type { PodCapture } from './capture/capture.ts';
import { connected, type SocketInit, TcpEnd, type TcpIo } from './tcp.ts';

export const CONNECT_DEADLINE_MS = 10_000;

/** Who can be told to give up while it connects. */
export interface Undoable {
  undo(run: () => void): () => void;
}

/** A plain connection to an application or past the mesh. Rejects with MeshError `CONNECT_FAILED` or `CONNECT_TIMEOUT`. */
export async function dialPlain(
  deps: { readonly capture: PodCapture; readonly io: TcpIo },
  destination: SocketAddress,
  owner: Undoable,
  source?: IpAddress,
): Promise<TcpEnd> {
  const end = new TcpEnd(deps.io, (init) => begin(deps.capture, destination, init, source));
  const forget = owner.undo(() => end.socket.destroy());
  await connected(end.socket, destination, CONNECT_DEADLINE_MS);
  forget();
  return end;
}

/** The TCP connection under a tunnel; TLS and HTTP/2 on top of it are the pool's. */
export async function dialTunnel(capture: PodCapture, destination: SocketAddress): Promise<net.Socket> {
  const socket = begin(capture, destination, {}, undefined);
  try {
    await connected(socket, destination, CONNECT_DEADLINE_MS);
  } catch (error) {
    if (!(error instanceof MeshError) || error.code !== 'CONNECT_TIMEOUT') throw error;
    throw new MeshError(
      'CONNECT_TIMEOUT',
      `connection timed out, maybe a NetworkPolicy is blocking HBONE port ${destination.port}: ${error.message}`,
      { cause: error, details: { tunnel: true } },
    );
  }
  return socket;
}

function begin(
  capture: PodCapture,
  destination: SocketAddress,
  init: Partial<SocketInit>,
  source: IpAddress | undefined,
): net.Socket {
  try {
    return capture.connect(destination, init, source);
  } catch (error) {
    throw new MeshError(
      'CONNECT_FAILED',
      `connecting to ${formatSocketAddress(destination)} failed: ${reasonOf(error)}`,
      { cause: error },
    );
  }
}
