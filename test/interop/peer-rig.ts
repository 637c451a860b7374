// A real ztunnel for one workload, alone in the network namespace of this process, with an authority of ours for its
// certificate; and connections to it from any address, by HBONE and in plaintext.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { HboneTunnel } from '#hbone/hbone.ts';
import { createHbonePool } from '#hbone/pool.ts';
import { formatSpiffeId } from '#model/identity.ts';
import type { Policy } from '#model/policy.ts';
import { formatHostPort, type Port, type SocketAddress } from '#net/host-port.ts';
import type { IpAddress } from '#net/ip.ts';
import { silentLogger } from '#telemetry/log.ts';
import type { Authority } from '#tls/issue.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { newSigningServer } from '../lib/signing-server.ts';
import { type DedicatedPeer, startDedicated } from './dedicated-peer.ts';
import { localPolicy, toYaml } from './local-policies.ts';

export const OWN = {
  name: 'target',
  namespace: 'shop',
  serviceAccount: 'target',
  trustDomain: 'cluster.local',
} as const;
export const OWN_ID = formatSpiffeId(OWN);
const HBONE_PORT = 15_008 as Port;
const MARK = 1337;

/** The static state in which the peer's workload has these addresses, and policies of which some are attached to it. */
export function ownState(
  workloadIps: readonly IpAddress[],
  policies: readonly Policy[] = [],
  authorizationPolicies: readonly string[] = [],
): string {
  const uid = 'Kubernetes//Pod/shop/target';
  const own = {
    ...OWN,
    uid,
    workloadIps,
    node: 'n1',
    protocol: 'HBONE',
    services: {},
    authorizationPolicies,
  };
  return toYaml({ workloads: [own], policies: policies.map(localPolicy) });
}

/** Whatever the attempt opens is closed; resolves with why it was refused, or undefined when it was not. */
export async function refusalOf(
  scope: Scope,
  run: (attempt: Scope) => Promise<unknown>,
): Promise<MeshError | undefined> {
  const attempt = scope.child('attempt');
  try {
    await run(attempt);
    return undefined;
  } catch (error) {
    if (error instanceof MeshError) return error;
    throw error;
  } finally {
    attempt.close();
  }
}

/** The addresses stand on loopback; connections to `ports` that are not the peer's own come to its port for plaintext. */
export function prepareNetwork(addresses: readonly IpAddress[], ports: readonly number[]): void {
  const lines = addresses.map((of) => `ip addr add ${of}/${of.includes(':') ? '128 nodad' : '32'} dev lo`);
  execFileSync('sh', ['-ec', ['ip link set lo up', ...lines].join('\n')]);
  const rule = `meta mark != ${MARK} tcp dport { ${ports.join(', ')} } redirect to :15006`;
  const chain = `chain output {\ntype nat hook output priority -100;\n${rule}\n}`;
  execFileSync('nft', ['-f', '-'], { input: `table inet interop {\n${chain}\n}\n` });
}

export async function startApplications(
  scope: Scope,
  ports: readonly number[],
  onSocket: (socket: net.Socket) => void,
): Promise<void> {
  for (const port of ports) {
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      onSocket(socket);
    });
    server.listen(port, '::');
    await once(server, 'listening');
    scope.onClose(() => server.close());
  }
}

export interface AuthorityAddress {
  readonly port: number;
  readonly rootPath: string;
}

/** Signs whatever it is asked for, with the one name there is. */
export async function serveAuthority(
  scope: Scope,
  authority: Authority,
  dir: string,
): Promise<AuthorityAddress> {
  const issued = { uris: [OWN_ID], sanCritical: true };
  const server = await newSigningServer(authority, { dnsNames: ['localhost'] }, issued);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  scope.onClose(() => server.close());
  const rootPath = join(dir, 'root.pem');
  writeFileSync(rootPath, authority.certPem);
  return { port: (server.address() as net.AddressInfo).port, rootPath };
}

/** Resolves when it is ready. `state` is the text of a static state file. */
export async function startPeer(
  program: string,
  ca: AuthorityAddress,
  dir: string,
  state: string,
  env: Readonly<Record<string, string>> = {},
): Promise<DedicatedPeer> {
  const start = (settings: Readonly<Record<string, string>>): ChildProcess =>
    spawn(program, [], {
      env: { PATH: process.env.PATH, ...settings },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const peer = startDedicated(start, {
    ...{ local: OWN, node: 'n1', state, dir, ca },
    env: {
      PACKET_MARK: String(MARK),
      ENABLE_ORIG_SRC: 'false',
      ISTIO_META_DNS_CAPTURE: 'false',
      ...env,
    },
  });
  for (let turn = 0; turn < 1000 && !peer.hasEnded; turn++) {
    if (await isReady()) return peer;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`the peer does not get ready:\n${peer.said().slice(-4000)}`);
}

async function isReady(): Promise<boolean> {
  try {
    return (await fetch('http://127.0.0.1:15021/healthz/ready')).ok;
  } catch {
    return false;
  }
}

/** A tunnel to the workload that ends with the scope; rejects as HbonePool.connect does. */
export function tunnel(
  scope: Scope,
  secret: WorkloadSecret,
  sourceIp: IpAddress,
  destination: { readonly ip: IpAddress; readonly port: number },
  dialled: SocketAddress = { ip: destination.ip, port: HBONE_PORT },
): Promise<HboneTunnel> {
  const pool = createHbonePool({
    dial: async ({ ip, port }) => connected(sourceIp, ip, port),
    secret: async () => secret,
    log: silentLogger,
    scope,
    clock: systemClock,
  });
  const key = {
    source: secret.identity,
    expected: [OWN_ID],
    destination: dialled,
    downstreamIp: sourceIp,
  };
  return pool.connect(key, formatHostPort(destination.ip, destination.port), {});
}

export async function connected(localAddress: IpAddress, host: IpAddress, port: number): Promise<net.Socket> {
  const socket = net.connect({ host, port, localAddress, noDelay: true, allowHalfOpen: true });
  await once(socket, 'connect');
  socket.on('error', () => {});
  return socket;
}
