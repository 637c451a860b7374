// The field's ztunnel (PEER_ZTUNNEL, a release build) for one workload in a network namespace of its own, with an authority
// that signs whatever is asked for. Sockets of the tests are made in the same namespace.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Scope } from '#base/scope.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { listenTcp, tcpSocket } from '#linux/socket.ts';
import type { Address } from '#model/address.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { Workload } from '#model/workload.ts';
import type { Port, SocketAddress } from '#net/host-port.ts';
import { familyOf, type IpAddress, ip, ipToBytes } from '#net/ip.ts';
import { silentLogger } from '#telemetry/log.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { readWorkloadSecret } from '#tls/workload-certificate.ts';
import { PEER_ZTUNNEL } from '../lib/peer-program.ts';
import { newSigningServer } from '../lib/signing-server.ts';
import { until } from '../lib/until.ts';
import { type DedicatedPeer, startDedicated } from './dedicated-peer.ts';
import { localConfig } from './local-config.ts';

export const LOOPBACK = ip('127.0.0.1');
const SOCKS_PORT = 15_080;
const CA_PORT = 15_012;

/** A namespace with nothing but loopback and these addresses on it. */
export class Namespace {
  readonly #name: string;
  readonly #fd: number;
  readonly #scope: Scope;

  constructor(scope: Scope, name: string, addresses: readonly IpAddress[] = []) {
    this.#name = name;
    this.#scope = scope;
    execFileSync('ip', ['netns', 'add', name]);
    scope.onClose(() => execFileSync('ip', ['netns', 'del', name]));
    execFileSync('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
    for (const address of addresses) execFileSync('ip', ['-n', name, 'addr', 'add', address, 'dev', 'lo']);
    this.#fd = openNetns(`/var/run/netns/${name}`);
    scope.onClose(() => closeFd(this.#fd));
  }

  /** A connection under way, from `source` if it is given. */
  open(to: SocketAddress, source?: IpAddress, init: object = {}): net.Socket {
    const fd = tcpSocket({
      family: familyOf(to.ip),
      netnsFd: this.#fd,
      ...(source === undefined ? {} : { bindSource: { ip: source } }),
    });
    const socket = new net.Socket({ ...init, fd } as net.SocketConstructorOpts);
    socket.on('error', () => {});
    return socket.connect({ host: to.ip, port: to.port });
  }

  async dial(to: SocketAddress, source?: IpAddress): Promise<net.Socket> {
    const socket = this.open(to, source, { allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  }

  serve(
    at: { readonly ip: string; readonly port: number },
    onSocket: (socket: net.Socket) => void,
  ): net.Server {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on('error', () => {});
      onSocket(socket);
    });
    this.adopt(server, at);
    return server;
  }

  adopt(server: net.Server, at: { readonly ip: string; readonly port: number }): void {
    const { fd } = listenTcp({ ip: at.ip, port: at.port, netnsFd: this.#fd });
    server.listen({ fd });
    this.#scope.onClose(() => server.close());
  }

  spawn(program: string, env: Readonly<Record<string, string>>): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.#name, program], {
      env: { PATH: process.env.PATH, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }
}

/** Signs any request, for the name in it; in place of a control plane. */
export async function startCa(scope: Scope, namespace: Namespace, authority: Authority): Promise<void> {
  const server = await newSigningServer(authority, { dnsNames: ['localhost'] });
  namespace.adopt(server as unknown as net.Server, { ip: LOOPBACK, port: CA_PORT });
  scope.onClose(() => server.close());
}

export const newAuthority = (): Promise<Authority> => createAuthority({ organization: 'test', validDays: 1 });

export async function secretOf(authority: Authority, identity: SpiffeId): Promise<WorkloadSecret> {
  const { certPem, keyPem } = await authority.issue({ uris: [identity], validForMs: 3_600_000 });
  return readWorkloadSecret(identity, createPrivateKey(keyPem!), [certPem, authority.certPem], silentLogger);
}

export class PeerZtunnel {
  readonly #namespace: Namespace;
  readonly #peer: DedicatedPeer;

  /** `local`: whom it serves. */
  constructor(
    scope: Scope,
    namespace: Namespace,
    local: Workload,
    addresses: readonly Address[],
    rootPem?: string,
  ) {
    this.#namespace = namespace;
    const dir = mkdtempSync(join(tmpdir(), 'culvert-interop-'));
    const rootPath = join(dir, 'root.pem');
    if (rootPem !== undefined) writeFileSync(rootPath, rootPem);
    const peer = startDedicated((env) => namespace.spawn(PEER_ZTUNNEL!, env), {
      ...{ local, node: local.node, dir },
      state: localConfig([{ kind: 'workload', workload: local }, ...addresses]),
      ca: rootPem === undefined ? undefined : { port: CA_PORT, rootPath },
      env: { UNSTABLE_ENABLE_SOCKS5: 'true', RUST_LOG: 'info' },
    });
    this.#peer = peer;
    scope.onClose(() => {
      void peer.kill();
      rmSync(dir, { recursive: true, force: true });
    });
  }

  async ready(): Promise<void> {
    try {
      await until('the peer is ready', () => /listener established.*socks5/.test(this.#peer.said()));
    } catch (error) {
      throw new Error(`${error}\n${this.#peer.said().slice(-3000)}`);
    }
  }

  end(): Promise<void> {
    return this.#peer.kill();
  }

  /** A connection out of its workload, and the port that its log names it by. */
  async connect({ ip: address, port }: SocketAddress): Promise<{ socket: net.Socket; from: number }> {
    this.#peer.forget();
    const socket = await this.#namespace.dial({ ip: LOOPBACK, port: SOCKS_PORT as Port });
    const from = socket.localPort!;
    const kind = familyOf(address) === 4 ? 1 : 4;
    socket.write(Buffer.from([5, 1, 0]));
    await once(socket, 'data');
    socket.write(Buffer.from([5, 1, 0, kind, ...ipToBytes(address), port >> 8, port & 0xff]));
    return { socket, from };
  }

  /** The access-log line of a connection since the last one was made: ports come again. */
  async line(src: string): Promise<string> {
    const find = (): string | undefined =>
      this.#peer
        .said()
        .split('\n')
        .find((text) => text.includes('\taccess\tconnection ') && text.includes(`src.addr=${src} `));
    await until(`the peer's line with ${src}`, () => find() !== undefined);
    return find()!;
  }
}

/** A field of an access-log line; `-` when it is absent. */
export function field(line: string, name: string): string {
  return new RegExp(`\\s${name.replace('.', '\\.')}=("?)(.*?)\\1(?=\\s|$)`).exec(line)?.[2] ?? '-';
}
