// A router and pods around it as network namespaces with the CNI agent's rules; the agent's end of ZDS that hands them
// over; ztunnels for them; and applications' sockets inside.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '#base/clock.ts';
import { Scope } from '#base/scope.ts';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import { createZdsServer, type ZdsPod, type ZdsServer } from '#cni/zds-server.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { connectSeqpacket } from '#linux/seqpacket.ts';
import type { Workload } from '#model/workload.ts';
import { createLogger, silentLogger } from '#telemetry/log.ts';
import { createHandOver } from '#ztunnel/capture/hand-over.ts';
import { createInPodCapture, listenerShape } from '#ztunnel/capture/in-pod.ts';
import { ListenerStock } from '#ztunnel/capture/listener-stock.ts';
import { podNetns } from '#ztunnel/capture/pod-netns.ts';
import { parseConfig } from '#ztunnel/config.ts';
import { createDataPlane, type DataPlane } from '#ztunnel/owner.ts';
import { type TestAuthority, workload } from '../../loopback/ztunnel-rig.ts';
import { dialFrom, listenIn, serverOf } from './in-namespace.ts';
import { furtherThreads, THREADS } from './threads.ts';

export interface TestPod {
  readonly name: string;
  readonly node: string;
  readonly ip: string;
  readonly netns: string;
}

export interface NodeAgent {
  readonly zds: ZdsServer;
  /** Enrolled pods by uid. */
  readonly pods: Map<string, ZdsPod>;
  readonly zdsPath: string;
}

export interface ZtunnelOptions {
  readonly handsOver?: boolean;
  readonly drainMs?: number;
  readonly threads?: number;
  readonly reusePort?: boolean;
  /** File of revocation lists. */
  readonly crlPath?: string;
  /** The program of the further threads. */
  readonly workerEntry?: URL;
}

export interface Ztunnel {
  readonly plane: DataPlane;
  readonly lines: string[];
  readonly fatal: Error[];
  /** As the program ends on SIGTERM. */
  drain(): Promise<unknown>;
}

const shell = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

export class PodNetwork {
  readonly scope = new Scope('test');
  readonly dir = mkdtempSync(join(tmpdir(), 'culvert-pods-'));
  readonly pods: TestPod[] = [];
  readonly #prefix: string;
  readonly #authority: TestAuthority;
  readonly #workloads: Workload[] = [];
  readonly #planes: DataPlane[] = [];

  constructor(authority: TestAuthority, prefix: string) {
    this.#authority = authority;
    this.#prefix = `${prefix}${process.pid}`;
    shell(`ip netns add ${this.router}; ip -n ${this.router} link set lo up
      ip netns exec ${this.router} sysctl -qw net.ipv4.ip_forward=1`);
    this.scope.onClose(() => {
      for (const name of [this.router, ...this.pods.map(({ netns }) => netns)])
        shell(`ip netns del ${name} 2>/dev/null || true`);
      rmSync(this.dir, { recursive: true, force: true });
    });
  }

  get router(): string {
    return `${this.#prefix}r`;
  }

  /** A namespace with an address and a way to the others. */
  makePod(name: string, node: string): TestPod {
    const number = this.pods.length + 1;
    const netns = `${this.#prefix}${number}`;
    const [ip, gateway, link] = [`10.9.${number}.2`, `10.9.${number}.1`, `v${number}p${process.pid}`];
    shell(`ip netns add ${netns}; ip -n ${netns} link set lo up
      ip -n ${this.router} link add ${link} type veth peer name eth0 netns ${netns}
      ip -n ${this.router} addr add ${gateway}/24 dev ${link}; ip -n ${this.router} link set ${link} up
      ip -n ${netns} addr add ${ip}/24 dev eth0; ip -n ${netns} link set eth0 up
      ip -n ${netns} route add default via ${gateway}`);
    const pod = { name, node, ip, netns };
    this.pods.push(pod);
    this.#workloads.push(workload(name, ip, node));
    for (const plane of this.#planes) this.#tell(plane);
    return pod;
  }

  /** The CNI agent's side of a node. */
  startAgent(node: string): NodeAgent {
    const zdsPath = join(this.dir, `${node}.sock`);
    const pods = new Map<string, ZdsPod>();
    const zds = createZdsServer(
      { pods: { uids: () => [...pods.keys()], get: (uid) => pods.get(uid) }, log: silentLogger },
      { path: zdsPath },
    );
    this.scope.onClose(() => {
      zds.close();
      for (const { netnsFd } of pods.values()) if (netnsFd !== undefined) closeFd(netnsFd);
    });
    return { zds, pods, zdsPath };
  }

  /** Rules into the pod, then to ztunnel. */
  async enrol(agent: NodeAgent, pod: TestPod): Promise<void> {
    const netnsFd = openNetns(`/var/run/netns/${pod.netns}`);
    await nftPodRules.apply(netnsFd, {
      ipv6: true,
      dnsCapture: false,
      bypassInbound: false,
      virtualInterfaces: [],
    });
    const info = { name: pod.name, namespace: 'shop', serviceAccount: pod.name };
    const entry = { uid: `uid-${pod.name}`, info, netnsFd };
    agent.pods.set(entry.uid, entry);
    await agent.zds.add(entry, 5_000);
  }

  /** Resolves when it has been told of every pod. `handsOver: false` stands for a ztunnel that cannot. */
  async startZtunnel(
    node: string,
    { zdsPath }: Pick<NodeAgent, 'zdsPath'>,
    options: ZtunnelOptions = {},
  ): Promise<Ztunnel> {
    const lines: string[] = [];
    const fatal: Error[] = [];
    const write = (line: string): void => void lines.push(line);
    const logControl = { format: 'plain', level: 'info', write } as const;
    const log = createLogger('app', logControl);
    const scope = this.scope.child('ztunnel');
    const config = {
      ...parseConfig({ NODE_NAME: node, XDS_ADDRESS: '', INPOD_UDS: zdsPath }),
      drainMs: options.drainMs ?? 20_000,
      adminPort: 0,
      statsPort: 0,
      readinessPort: 0,
      threads: options.threads ?? THREADS,
      reusePort: options.reusePort ?? true,
      crlPath: options.crlPath,
    };
    const stock = new ListenerStock();
    const path = join(this.dir, `${node}-hand-over.sock`);
    const handOver =
      options.handsOver === false
        ? undefined
        : createHandOver({ stock, log, scope }, { path, shape: listenerShape(config) });
    await handOver?.receive();
    const snapshot = Promise.withResolvers<void>();
    const plane = await createDataPlane(
      {
        log,
        logControl,
        clock: systemClock,
        random: Math.random,
        openCapture: createInPodCapture({ log, scope, stock }, config),
        ...furtherThreads(config.threads, lines, (error) => fatal.push(error), options.workerEntry),
        ca: this.#authority.client,
        zds: {
          connect: connectSeqpacket,
          netns: podNetns,
          discard: closeFd,
          onSnapshot: () => {
            handOver?.settle();
            snapshot.resolve();
          },
        },
        shutdown: () => {},
        onFatal: (error) => fatal.push(error),
      },
      config,
    );
    scope.onClose(() => plane.close());
    this.#planes.push(plane);
    this.#tell(plane);
    await snapshot.promise;
    return {
      plane,
      lines,
      fatal,
      drain: async () => {
        handOver?.close();
        const result = await plane.drain();
        scope.close();
        return result;
      },
    };
  }

  #tell(plane: DataPlane): void {
    plane.store.apply({
      addresses: this.#workloads.map((one) => ({ kind: 'workload', workload: one })),
    });
  }

  /** An application's listener inside a namespace; resolves with its port. */
  serve(netns: string, onSocket: (socket: net.Socket) => void): Promise<number> {
    const server = serverOf(onSocket);
    this.scope.onClose(() => server.close());
    return listenIn(netns, server, '0.0.0.0');
  }

  /** An application's connection out of a namespace. Its errors are the caller's to hear. */
  readonly dial = dialFrom;

  close(): void {
    this.scope.close();
  }
}
