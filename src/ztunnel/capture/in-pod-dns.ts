// The DNS side of in-pod capture: listeners inside the pod's namespace, where its rules redirect port 53 to, and sockets
// that ask other servers from there.

import dgram from 'node:dgram';
import net from 'node:net';
import { MeshError } from '#base/errors.ts';
import { isInOwnNetwork } from '#dns/forward.ts';
import type { DnsSockets } from '#dns/sockets.ts';
import { closeFd } from '#linux/netns.ts';
import { listenTcp, tcpSocket, udpSocket } from '#linux/socket.ts';
import type { SocketAddress } from '#net/host-port.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';
import type { PodNetns } from './capture.ts';
import type { DescriptorGuard } from './descriptor-guard.ts';
import type { ListenerStock } from './listener-stock.ts';

export interface PodDnsOptions {
  readonly packetMark: number | undefined;
  readonly reusePort: boolean;
  readonly dnsProxy: DnsListenAddress;
}

export interface DnsListenAddress {
  readonly ips: readonly IpAddress[];
  readonly port: number;
}

/** A namespace (or kernel) whose loopback has no IPv6 is served over IPv4 alone. */
const NO_SUCH_FAMILY: ReadonlySet<unknown> = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT']);

/** @throws MeshError when an address cannot be bound; nothing is left open then. */
export function openPodDns(
  options: PodDnsOptions,
  { id: netnsId, fd: netnsFd }: Pick<PodNetns, 'id' | 'fd'>,
  stock?: ListenerStock,
  descriptors?: DescriptorGuard,
): DnsSockets {
  const { packetMark, reusePort, dnsProxy } = options;
  const marked = packetMark === undefined ? {} : { mark: packetMark };
  const { port } = dnsProxy;
  const datagrams: dgram.Socket[] = [];
  const listeners: net.Server[] = [];
  const forgets: (() => void)[] = [];
  /** The predecessor's socket, if there is one: what waits in its queue is then answered by either of us. */
  const shared = (of: string, make: () => number): number => {
    // One thread serves DNS, so there is one; of a pod that was added again meanwhile the last counts.
    const inherited = stock?.take(netnsId, port, of) ?? [];
    const fd = inherited.pop()?.fd ?? make();
    for (const older of inherited) closeFd(older.fd);
    if (stock !== undefined) forgets.push(stock.keep({ netnsId, port, of, fd, transparent: false }));
    return fd;
  };
  const close = (): void => {
    for (const forget of forgets.splice(0)) forget();
    for (const socket of datagrams.splice(0)) socket.close();
    for (const listener of listeners.splice(0)) listener.close();
  };
  try {
    for (const ip of dnsProxy.ips) {
      try {
        const bind = { ip, port, reusePort };
        const family = familyOf(ip);
        const udp = shared(`udp ${ip}`, () => udpSocket({ family, netnsFd, ...marked, bind }));
        datagrams.push(adoptUdp(family, udp));
        const tcp = shared(`tcp ${ip}`, () => listenTcp({ ip, port, netnsFd, ...marked, reusePort }).fd);
        const listener = adoptListener(tcp);
        descriptors?.watch(listener);
        listeners.push(listener);
      } catch (error) {
        const hasNone = error instanceof MeshError && NO_SUCH_FAMILY.has(error.details.errno);
        if (familyOf(ip) === 4 || !hasNone) throw error;
      }
    }
  } catch (error) {
    close();
    throw MeshError.from(error, 'SYSCALL_FAILED', 'binding the DNS listeners of a pod');
  }
  const networkOf = (server: SocketAddress) => (isInOwnNetwork(server) ? marked : { netnsFd, ...marked });
  return {
    datagrams,
    listeners,
    udp: (server) => {
      const family = familyOf(server.ip);
      return adoptUdp(family, udpSocket({ family, ...networkOf(server) }));
    },
    tcp: (server) => {
      const fd = tcpSocket({ family: familyOf(server.ip), ...networkOf(server) });
      return adopting(fd, () =>
        new net.Socket({ fd } as net.SocketConstructorOpts).connect({ host: server.ip, port: server.port }),
      );
    },
    close,
  };
}

function adoptUdp(family: 4 | 6, fd: number): dgram.Socket {
  return adopting(fd, () => {
    // Addresses only ever stand as numbers here; nothing is looked up, least of all over DNS.
    const socket = dgram.createSocket({
      type: `udp${family}`,
      lookup: (host, _options, callback) => callback(null, host, family),
    });
    return socket.bind({ fd });
  });
}

function adoptListener(fd: number): net.Server {
  return adopting(fd, () => {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true });
    server.listen({ fd });
    return server;
  });
}

function adopting<T>(fd: number, adopt: () => T): T {
  try {
    return adopt();
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
