// Two workloads in namespaces of their own with a router between them, an application that says everything again, and proxies in
// dedicated mode beside them, ours or a real one, fed by one static state file and signed for by one authority.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { createAuthority } from '#tls/issue.ts';
import { PEER_ZTUNNEL } from '../../lib/peer-program.ts';
import { newSigningServer } from '../../lib/signing-server.ts';
import { readAll } from '../../loopback/ztunnel-rig.ts';
import { dialFrom, getIn, listenIn, serverOf } from './in-namespace.ts';

export const VIP = '10.96.8.8';

export type Kind = 'ours' | 'peer';

interface PodPlace {
  readonly netns: string;
  readonly ip: string;
  readonly gateway: string;
  readonly name: string;
}

export interface DedicatedProxy {
  readonly pid: number;
  readonly lines: string[];
  /** Lines of the access log with all these texts. */
  access(...texts: string[]): string[];
  readonly hasEnded: boolean;
  /** Undefined while it runs, and when a signal has ended it. */
  readonly exitCode: number | undefined;
}

export interface StartOptions {
  readonly descriptorLimit?: number;
  readonly env?: NodeJS.ProcessEnv;
}

export interface DedicatedPair {
  readonly client: PodPlace;
  readonly server: PodPlace;
  readonly appPort: number;
  /** The state file gets the two workloads, the service, and these lines. */
  writeState(more?: string): void;
  /** Starts one proxy in a pod's namespace and waits until it says that it is ready. It ends with the test. */
  start(t: TestContext, kind: Kind, pod: PodPlace, options?: StartOptions): Promise<DedicatedProxy>;
  /** From the pod of the client unless another namespace is given. */
  dial(host: string, port: number, netns?: string): net.Socket;
  /** What is answered until the end. */
  ask(host: string, port: number, text: string): Promise<string>;
  close(): void;
}

interface Ports {
  readonly appPort: number;
  /** Of the authority, by namespace. */
  readonly caPorts: ReadonlyMap<string, number>;
}

const root = join(import.meta.dirname, '../../..');

const run = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** `prefix`: of the names of its namespaces. */
export async function createDedicatedPair(prefix: string): Promise<DedicatedPair> {
  await warmThreadPool();
  const router = `${prefix}${process.pid}r`;
  const client = { netns: `${prefix}${process.pid}a`, ip: '10.8.1.2', gateway: '10.8.1.1', name: 'cart' };
  const server = { netns: `${prefix}${process.pid}b`, ip: '10.8.2.2', gateway: '10.8.2.1', name: 'stock' };
  const pods: readonly PodPlace[] = [client, server];
  const dir = mkdtempSync(join(tmpdir(), 'culvert-dedicated-'));
  const statePath = join(dir, 'state.yaml');
  const rootPath = join(dir, 'root.pem');
  const keyPath = join(dir, 'root-key.pem');
  const servers: { close(): unknown }[] = [];
  const close = (): void => {
    for (const one of servers) one.close();
    for (const name of [router, client.netns, server.netns]) run(`ip netns del ${name} 2>/dev/null || true`);
    rmSync(dir, { recursive: true, force: true });
  };

  async function build(): Promise<Ports> {
    const authority = await createAuthority({ organization: 'cluster.local', validDays: 1 });
    writeFileSync(rootPath, authority.certPem);
    writeFileSync(keyPath, authority.keyPem);
    run(`ip netns add ${router}; ip -n ${router} link set lo up
      ip netns exec ${router} sysctl -qw net.ipv4.ip_forward=1`);
    for (const { netns, ip, gateway } of pods) {
      const link = `v${netns.slice(-6)}`;
      run(`ip netns add ${netns}; ip -n ${netns} link set lo up
        ip -n ${router} link add ${link} type veth peer name eth0 netns ${netns}
        ip -n ${router} addr add ${gateway}/24 dev ${link}; ip -n ${router} link set ${link} up
        ip -n ${netns} addr add ${ip}/24 dev eth0; ip -n ${netns} link set eth0 up
        ip -n ${netns} route add default via ${gateway}`);
      const fd = openNetns(`/var/run/netns/${netns}`);
      try {
        await nftPodRules.apply(fd, {
          ipv6: true,
          dnsCapture: false,
          bypassInbound: false,
          virtualInterfaces: [],
        });
      } finally {
        closeFd(fd);
      }
    }
    const app = serverOf((socket) => socket.pipe(socket));
    servers.push(app);
    const appPort = await listenIn(server.netns, app, '0.0.0.0');
    // On loopback, which is not captured: a real one would carry its own connections to its authority, and wait for them when it ends.
    const caPorts = new Map<string, number>();
    for (const { netns } of pods) {
      const ca = await newSigningServer(authority, { ips: ['127.0.0.1'] });
      servers.push(ca);
      caPorts.set(netns, await listenIn(netns, ca as unknown as net.Server, '127.0.0.1'));
    }
    return { appPort, caPorts };
  }

  let ports: Ports;
  try {
    ports = await build();
  } catch (error) {
    close();
    throw error;
  }
  const { appPort, caPorts } = ports;

  const dial = (host: string, port: number, netns = client.netns): net.Socket =>
    dialFrom(netns, host, port).on('error', () => {});

  function stateOf({ name, ip }: PodPlace): string {
    const services = name === 'stock' ? `{ shop/stock.shop.svc.cluster.local: { 80: ${appPort} } }` : '{}';
    return `
- uid: local//Pod/shop/${name}
  name: ${name}
  namespace: shop
  serviceAccount: ${name}
  trustDomain: cluster.local
  workloadIps: [${ip}]
  protocol: HBONE
  services: ${services}`;
  }

  function spawnProxy(kind: Kind, pod: PodPlace, { descriptorLimit, env }: StartOptions): ChildProcess {
    const limited =
      descriptorLimit === undefined ? [] : ['sh', '-c', `ulimit -n ${descriptorLimit}; exec "$@"`, 'limited'];
    const program = [
      ...limited,
      ...(kind === 'ours' ? [join(root, 'bin/culvert'), 'ztunnel'] : [PEER_ZTUNNEL!]),
    ];
    return spawn('ip', ['netns', 'exec', pod.netns, ...program], {
      env: {
        PATH: process.env.PATH,
        PROXY_MODE: 'dedicated',
        PROXY_WORKLOAD_INFO: `shop/${pod.name}/${pod.name}`,
        PACKET_MARK: '1337',
        XDS_ADDRESS: '',
        LOCAL_XDS_PATH: statePath,
        PROXY_CONFIG: 'proxyMetadata: { DNS_CAPTURE: "false" }',
        ...env,
        // Ours signs with the root; a release build of the peer cannot and asks an authority that has the same one.
        ...(kind === 'ours'
          ? { FAKE_CA: 'true', FAKE_CA_CERT: rootPath, FAKE_CA_KEY: keyPath }
          : {
              CA_ADDRESS: `https://127.0.0.1:${caPorts.get(pod.netns)}`,
              CA_ROOT_CA: rootPath,
              AUTH_TOKEN: 'token',
            }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  return {
    client,
    server,
    appPort,
    dial,
    writeState: (more = '') =>
      writeFileSync(
        statePath,
        `workloads:${pods.map(stateOf).join('')}
services:
- name: stock
  namespace: shop
  hostname: stock.shop.svc.cluster.local
  vips: [/${VIP}]
  ports: { 80: ${appPort} }
${more}`,
      ),
    async start(t, kind, pod, options = {}) {
      const child = spawnProxy(kind, pod, options);
      const lines = linesOf(child);
      let hasEnded = false;
      const ended = once(child, 'exit').then(() => {
        hasEnded = true;
      });
      t.after(async () => {
        child.kill('SIGKILL');
        await ended;
      });
      while ((await getIn(pod.netns, 15_021, '/healthz/ready'))?.status !== 200) {
        if (hasEnded) throw new Error(`the proxy ended:\n${lines.join('\n')}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return {
        pid: child.pid!,
        lines,
        access: (...texts) =>
          lines.filter((line) => line.includes('access') && texts.every((text) => line.includes(text))),
        get hasEnded() {
          return hasEnded;
        },
        get exitCode() {
          return child.exitCode ?? undefined;
        },
      };
    },
    async ask(host, port, text) {
      const socket = dial(host, port);
      const answer = readAll(socket);
      socket.end(text);
      return String(await answer);
    },
    close,
  };
}

/** Of both outputs, as they come. */
function linesOf(child: ChildProcess): string[] {
  const lines: string[] = [];
  for (const stream of [child.stdout!, child.stderr!]) {
    let rest = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop() ?? '';
      lines.push(...parts);
    });
  }
  return lines;
}
