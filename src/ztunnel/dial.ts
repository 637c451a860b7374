// Opening TCP connections from a pod's network, within the one deadline that all proxied dials share.

import type net from 'node:net';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { TcpHandle } from '#linux/tcp-handle.ts';
import { formatSocketAddress, type SocketAddress } from '#net/host-port.ts';
import type { IpAddress } from '#net/ip.ts';
import type { PodCapture } from './capture/capture.ts';
import { TcpEnd, type TcpIo } from './tcp.ts';

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
  const handle = open(deps.capture, destination, source);
  const forget = owner.undo(() => handle.close());
  await connected(handle, destination, CONNECT_DEADLINE_MS);
  forget();
  return new TcpEnd(deps.io, handle);
}

/** The TCP connection under a tunnel; TLS and HTTP/2 on top of it are the pool's. */
export async function dialTunnel(capture: PodCapture, destination: SocketAddress): Promise<net.Socket> {
  const handle = open(capture, destination, undefined);
  try {
    await connected(handle, destination, CONNECT_DEADLINE_MS);
  } catch (error) {
    if (!(error instanceof MeshError) || error.code !== 'CONNECT_TIMEOUT') throw error;
    throw new MeshError(
      'CONNECT_TIMEOUT',
      `connection timed out, maybe a NetworkPolicy is blocking HBONE port ${destination.port}: ${error.message}`,
      { cause: error, details: { tunnel: true } },
    );
  }
  return handle.toSocket();
}

function open(capture: PodCapture, destination: SocketAddress, source: IpAddress | undefined): TcpHandle {
  try {
    return capture.open(destination, source);
  } catch (error) {
    throw failed(destination, reasonOf(error), error);
  }
}

/** Connects within the deadline. The handle is closed on failure. */
export function connected(handle: TcpHandle, destination: SocketAddress, deadlineMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const giveUp = (error: MeshError): void => {
      handle.close();
      reject(error);
    };
    const timer = setTimeout(() => {
      const where = formatSocketAddress(destination);
      const message = `connecting to ${where} took longer than ${deadlineMs / 1000} s`;
      giveUp(new MeshError('CONNECT_TIMEOUT', message));
    }, deadlineMs);
    handle.connect(destination, (errno) => {
      clearTimeout(timer);
      if (errno === undefined) resolve();
      else if (errno === 'ECANCELED') giveUp(failed(destination, 'closed before it was connected'));
      else giveUp(failed(destination, errno));
    });
  });
}

function failed(destination: SocketAddress, reason: string, cause?: unknown): MeshError {
  const message = `connecting to ${formatSocketAddress(destination)} failed: ${reason}`;
  return new MeshError('CONNECT_FAILED', message, { cause });
}
