// For tests of the redirection: a listener that says where a connection wanted to go and on which port it ended up, and
// connections that carry ztunnel's mark or come from somebody's address.

import net from 'node:net';
import { errnoOf } from '#base/errors.ts';
import { originalDst } from '#linux/original-dst.ts';
import { listenTcp, tcpSocket } from '#linux/socket.ts';
import { familyOf, ip } from '#net/ip.ts';
import { fdOf } from '../../lib/descriptors.ts';

/** Answers with "port, original destination, client address" and ends. With a mark it stands for a port of ztunnel's. */
export function tellingServer(
  netnsFd: number,
  address: '0.0.0.0' | '::',
  port: number,
  mark: number | undefined,
): net.Server {
  const { fd } = listenTcp({
    ip: address,
    port,
    netnsFd,
    ...(mark === undefined ? {} : { mark, transparent: 'required' as const }),
  });
  const server = net.createServer((socket) => {
    const dst = originalDst(fdOf(socket));
    socket.on('error', () => {});
    socket.end(`${port} ${dst === undefined ? '-' : `${dst.ip}:${dst.port}`} ${socket.remoteAddress}`);
  });
  return server.listen({ fd });
}

/** What the far end says, or the errno. */
export function askFrom(
  netnsFd: number,
  host: string,
  port: number,
  { mark, source }: { readonly mark?: number | undefined; readonly source?: string | undefined } = {},
): Promise<string> {
  const fd = tcpSocket({
    family: familyOf(ip(host)),
    netnsFd,
    ...(mark === undefined ? {} : { mark }),
    ...(source === undefined ? {} : { bindSource: { ip: ip(source) } }),
  });
  return new Promise((resolve) => {
    let text = '';
    new net.Socket({ fd })
      .setTimeout(30_000, function (this: net.Socket) {
        this.destroy();
        resolve('timeout');
      })
      .on('error', (error) => resolve(errnoOf(error) ?? String(error)))
      .on('data', (chunk) => {
        text += chunk;
      })
      .on('end', () => resolve(text))
      .connect({ host, port });
  });
}
