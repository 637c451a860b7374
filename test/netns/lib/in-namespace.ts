// Applications in a named network namespace: their listeners and their connections.

import { once } from 'node:events';
import net from 'node:net';
import { closeFd, openNetns } from '#linux/netns.ts';
import { listenTcp, tcpSocket } from '#linux/socket.ts';
import { readAll } from '../../loopback/ztunnel-rig.ts';

function within<T>(netns: string, work: (netnsFd: number) => T): T {
  const fd = openNetns(`/var/run/netns/${netns}`);
  try {
    return work(fd);
  } finally {
    closeFd(fd);
  }
}

/** The server listens there, on a free port; resolves with it. The caller closes the server. */
export async function listenIn(netns: string, server: net.Server, address = '::'): Promise<number> {
  const { fd } = within(netns, (netnsFd) => listenTcp({ ip: address, port: 0, netnsFd, backlog: 1024 }));
  server.listen({ fd });
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

/** A server of sockets whose failures are nobody's matter. */
export const serverOf = (onSocket: (socket: net.Socket) => void): net.Server =>
  net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    onSocket(socket);
  });

/** A connection under way. Its errors are the caller's to hear. */
export function dialFrom(netns: string, host: string, port: number): net.Socket {
  const fd = within(netns, (netnsFd) => tcpSocket({ family: net.isIPv6(host) ? 6 : 4, netnsFd }));
  const socket = new net.Socket({ fd, allowHalfOpen: true } as net.SocketConstructorOpts);
  return socket.connect({ host, port });
}

/** What an HTTP server on loopback there answers; undefined while nobody does. */
export async function getIn(
  netns: string,
  port: number,
  path: string,
): Promise<{ readonly status: number; readonly body: string } | undefined> {
  const socket = dialFrom(netns, '127.0.0.1', port).on('error', () => {});
  const answer = readAll(socket);
  socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
  const text = String(await answer);
  socket.destroy();
  const [, status, body = ''] = /^HTTP\/1\.1 (\d+) .*?\r\n\r\n(.*)$/s.exec(text) ?? [];
  return status === undefined ? undefined : { status: Number(status), body };
}
