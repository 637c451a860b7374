// Data planes in one process without namespaces: a capture of plain listeners on addresses of 127.0.0.0/8, a test
// authority, and a mesh of two nodes. Used by the ztunnel tests and their worker thread.

import { once } from 'node:events';
import net from 'node:net';
import { systemClock } from '#base/clock.ts';
import type { MeshError } from '#base/errors.ts';
import { TcpHandle } from '#linux/tcp-handle.ts';
import { serviceOf, workloadOf } from '#model/samples.ts';
import type { Service } from '#model/service.ts';
import { serviceKey, type Workload } from '#model/workload.ts';
import { type Port, parseHostPort, type SocketAddress } from '#net/host-port.ts';
import { type IpAddress, ip, parseIp } from '#net/ip.ts';
import { createLogger, type LogOptions } from '#telemetry/log.ts';
import { createAuthority, parseCsr } from '#tls/issue.ts';
import type { CertificateAuthorityClient } from '#tls/secret.ts';
import type { CapturedConnection, Direction, OpenCapture, PodNetns } from '#ztunnel/capture/capture.ts';
import { parseConfig, type ZtunnelConfig } from '#ztunnel/config.ts';
import { connected } from '#ztunnel/dial.ts';
import { createDataPlane, type DataPlane, type DataPlaneDeps } from '#ztunnel/owner.ts';
import { TcpEnd, TcpIo } from '#ztunnel/tcp.ts';

/** Test files run side by side: an address of 127.0.0.0/8 that this process alone uses. `host` from 1 to 254. */
export const ownAddress = (host: number): string =>
  `127.${16 + ((process.pid >> 8) % 200)}.${process.pid & 0xff}.${host}`;

export interface TestAuthority {
  readonly certPem: string;
  readonly keyPem: string;
  readonly client: CertificateAuthorityClient;
}

/** The same key and certificate make the same authority, in whatever thread. */
export async function testAuthority(from?: { certPem: string; keyPem: string }): Promise<TestAuthority> {
  const authority = await createAuthority({ organization: 'test', validDays: 1, ...from });
  return {
    certPem: authority.certPem,
    keyPem: authority.keyPem,
    client: {
      sign: async (identity, csrPem, ttlSeconds) => {
        const { publicKeySpki } = parseCsr(csrPem);
        const { certPem } = await authority.issue({
          uris: [identity],
          publicKey: publicKeySpki,
          validForMs: ttlSeconds * 1000,
          backdateMs: 60_000,
        });
        return [certPem, authority.certPem];
      },
    },
  };
}

const LISTENERS: readonly (readonly [Direction, number])[] = [
  ['outbound', 15_001],
  ['inbound-plaintext', 15_006],
  ['inbound-hbone', 15_008],
];

/** Plain listeners per pod. Where a "redirected" connection wanted to go is queued before it is opened. */
export class LoopbackCapture {
  readonly #wanted = new Map<string, SocketAddress[]>();
  readonly #binding: Promise<unknown>[] = [];

  netns(podIp: string): PodNetns {
    return { id: podIp, fd: -1, close: () => {} };
  }

  readonly open: OpenCapture = (netns, onConnection) => {
    const servers = LISTENERS.map(([direction, port]) => {
      const server = net.createServer(
        { allowHalfOpen: true, noDelay: true, pauseOnConnect: true },
        (socket) => onConnection(this.#captured(netns.id, direction, socket)),
      );
      server.listen(port, netns.id);
      this.#binding.push(once(server, 'listening'));
      return server;
    });
    return {
      open: (_destination, source) => handleFrom(source ?? ip(netns.id)),
      closeListeners: () => {
        for (const server of servers) server.close();
      },
    };
  };

  async ready(): Promise<void> {
    await Promise.all(this.#binding.splice(0));
  }

  /** What an application in the pod would get from `connect(destination)`. */
  dialFrom(podIp: string, destination: string): net.Socket {
    return this.#redirected(podIp, 'outbound', destination, podIp);
  }

  /** Plaintext from `sourceIp` that reaches the pod. */
  dialPlain(podIp: string, destination: string, sourceIp: string): net.Socket {
    return this.#redirected(podIp, 'inbound-plaintext', destination, sourceIp);
  }

  #redirected(podIp: string, direction: Direction, destination: string, source: string): net.Socket {
    const parsed = parseHostPort(destination);
    if (parsed?.kind !== 'ip') throw new TypeError(`not an address: ${destination}`);
    const queue = this.#queue(podIp, direction);
    queue.push({ ip: parsed.ip, port: parsed.port });
    const port = LISTENERS.find(([of]) => of === direction)![1];
    const socket = net.connect({ host: podIp, port, localAddress: source, allowHalfOpen: true });
    socket.on('error', () => {});
    return socket;
  }

  #queue(podIp: string, direction: Direction): SocketAddress[] {
    const key = `${direction} ${podIp}`;
    const queue = this.#wanted.get(key) ?? [];
    this.#wanted.set(key, queue);
    return queue;
  }

  #captured(podIp: string, direction: Direction, socket: net.Socket): CapturedConnection {
    const peer = { ip: parseIp(socket.remoteAddress!)!, port: socket.remotePort as Port };
    const local = { ip: ip(podIp), port: socket.localPort as Port };
    const originalDst = direction === 'inbound-hbone' ? local : this.#queue(podIp, direction).shift()!;
    return { direction, handle: TcpHandle.from(socket), peer, originalDst };
  }
}

function handleFrom(source: IpAddress | undefined): TcpHandle {
  const handle = TcpHandle.create();
  handle.configure(undefined);
  if (source !== undefined) handle.bind(source);
  return handle;
}

/** A TCP end to a server of the test. */
export async function dialEnd(to: SocketAddress, source?: IpAddress): Promise<TcpEnd> {
  const handle = handleFrom(source);
  await connected(handle, to, 5_000);
  return new TcpEnd(new TcpIo(), handle);
}

export interface TestPlane {
  readonly plane: DataPlane;
  readonly capture: LoopbackCapture;
  readonly lines: string[];
  readonly fatal: MeshError[];
  addPod(workload: Workload): Promise<void>;
  /** Access-log lines that contain every text. */
  access(...texts: string[]): string[];
}

export async function startPlane(
  nodeName: string,
  ca: CertificateAuthorityClient,
  settings: Partial<ZtunnelConfig> = {},
  deps: Pick<DataPlaneDeps, 'openXds' | 'queryDns'> = {},
): Promise<TestPlane> {
  const lines: string[] = [];
  const fatal: MeshError[] = [];
  const capture = new LoopbackCapture();
  const logControl: { -readonly [Key in keyof LogOptions]: LogOptions[Key] } = {
    format: 'plain',
    level: 'info',
    write: (line) => lines.push(line),
  };
  const config = parseConfig({ NODE_NAME: nodeName, XDS_ADDRESS: '' });
  const plane = await createDataPlane(
    {
      log: createLogger('app', logControl),
      logControl,
      clock: systemClock,
      random: Math.random,
      openCapture: capture.open,
      ca,
      shutdown: () => {},
      onFatal: (error) => fatal.push(error),
      ...deps,
    },
    { ...config, adminPort: 0, statsPort: 0, readinessPort: 0, ...settings },
  );
  return {
    plane,
    capture,
    lines,
    fatal,
    addPod: async (workload) => {
      const { uid, name, namespace, serviceAccount } = workload;
      plane.pods.add(uid, { name, namespace, serviceAccount }, capture.netns(workload.ips[0]!));
      await capture.ready();
    },
    access: (...texts) =>
      lines.filter((line) => line.includes('\taccess\t') && texts.every((text) => line.includes(text))),
  };
}

export function workload(name: string, podIp: string, node: string, more: Partial<Workload> = {}): Workload {
  return workloadOf({
    ...{ name, namespace: 'shop', serviceAccount: name, canonicalRevision: 'v1' },
    ...{ ips: [ip(podIp)], node },
    ...more,
  });
}

export function service(name: string, vip: string, ports: ReadonlyMap<number, number>): Service {
  return serviceOf({
    ...{ name, namespace: 'shop', ports, ipFamilies: 'IPv4', canonical: true },
    vips: [{ network: '', ip: vip as IpAddress }],
  });
}

export const serviceKeyOf = (of: Service) => serviceKey(of.namespace, of.hostname);

/** An application on a pod's address; the caller closes it. */
export async function application(
  podIp: string,
  onSocket: (socket: net.Socket) => void,
): Promise<{ readonly port: number; readonly server: net.Server }> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    onSocket(socket);
  });
  server.listen(0, podIp);
  await once(server, 'listening');
  return { port: (server.address() as net.AddressInfo).port, server };
}

/** Everything a socket says until it ends or breaks. */
export function readAll(socket: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve) => {
    socket.once('end', () => resolve(Buffer.concat(chunks)));
    socket.once('close', () => resolve(Buffer.concat(chunks)));
  });
}
