// Tries the redirection for real, in two throw-away network namespaces of this node: what works there works in pods, and
// what does not says by itself what is missing (kernel feature, program, right).

import { type ChildProcess, spawn } from 'node:child_process';
import net from 'node:net';
import { sleep } from '#base/clock.ts';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import { closeFd, netnsId, openNetns, sameNetns } from '#linux/netns.ts';
import { originalDst } from '#linux/original-dst.ts';
import { listenTcp, tcpSocket } from '#linux/socket.ts';
import { acceptFrom, type TcpHandle, type TcpListener } from '#linux/tcp-handle.ts';
import { ip } from '#net/ip.ts';
import { INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT, ZTUNNEL_MARK } from '../constants.ts';
import type { PodRuleOptions } from '../rules/nft.ts';
import { closeOlderConnections, keepOlderConnections, olderConnections } from '../rules/older-connections.ts';
import type { PodRules } from '../rules/pod-rules.ts';
import { runToolOrFail } from '../rules/run-tool.ts';
import type { Finding } from './finding.ts';

const POD_IP = '10.255.255.1';
const PEER_IP = '10.255.255.2';
const FOREIGN_IP = '10.255.254.9';
const APP_PORT = 8080;
const LIMIT_MS = 3000;

export interface TrialOptions {
  /** `nftables`, `iptables-nft`, …: what `rules` writes with. */
  readonly name: string;
  readonly rules: PodRules;
  readonly ipv6: boolean;
}

/** One finding per property, or one that says why the trial could not be made. */
export async function tryRedirection({ name, rules, ipv6 }: TrialOptions): Promise<Finding[]> {
  const findings: Finding[] = [];
  const world = new World();
  const options: PodRuleOptions = {
    ipv6,
    dnsCapture: true,
    bypassInbound: false,
    virtualInterfaces: [],
  };
  const attempt = async (id: string, good: string, work: () => Promise<void>, bad: Partial<Finding>) => {
    try {
      await work();
      findings.push({ id, level: 'ok', what: `${name}: ${good}` });
    } catch (error) {
      findings.push({ id, level: 'broken', what: `${name}: ${reasonOf(error)}`, ...bad });
    }
  };
  try {
    await world.make();
    world.listen(APP_PORT);
    const older = await world.dial('peer', POD_IP, APP_PORT);
    await attempt(
      'rules',
      'the rules are accepted',
      async () => {
        await rules.track(world.pod, options);
        keepOlderConnections(world.pod);
        await rules.apply(world.pod, options);
      },
      {
        fix: 'load the kernel modules nf_tables, nf_nat, nft_redir, nft_ct (or ip_tables, xt_REDIRECT, xt_connmark, xt_CT)',
      },
    );
    if (findings.at(-1)?.level !== 'ok') return findings;
    for (const port of [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, INBOUND_HBONE_PORT])
      world.listen(port, ZTUNNEL_MARK);
    await attempt(
      'redirect',
      'connections of a pod, and to it, arrive at ztunnel with their destination',
      async () => {
        expectAnswer(await world.ask(await world.dial('pod', PEER_IP, 80)), `${OUTBOUND_PORT} ${PEER_IP}:80`);
        expectAnswer(
          await world.ask(await world.dial('peer', POD_IP, 9)),
          `${INBOUND_PLAINTEXT_PORT} ${POD_IP}:9`,
        );
      },
      {},
    );
    await attempt(
      'source-address',
      "the application sees the client's own address",
      async () =>
        expectAnswer(
          await world.ask(await world.dial('pod', POD_IP, APP_PORT, FOREIGN_IP)),
          `${APP_PORT} from ${FOREIGN_IP}`,
        ),
      {
        fix: 'IP_TRANSPARENT and policy routing by mark are needed (CONFIG_IP_MULTIPLE_TABLES, CAP_NET_ADMIN)',
      },
    );
    await attempt(
      'older-connections',
      'connections older than an enrolment go on',
      async () => expectAnswer(await world.ask(older), String(APP_PORT)),
      {
        level: 'trap',
        what: `${name}: connections that a pod has open are reset when it is enrolled`,
        fix: 'load the kernel modules nf_conntrack_netlink and tcp_diag',
      },
    );
    await attempt(
      'close-older',
      'they can be closed where mutual TLS is required',
      async () => {
        // Not `once` of node:events: the reset is an error as well.
        const closed = new Promise((resolve) => older.once('close', resolve));
        closeOlderConnections(world.pod, olderConnections(world.pod));
        await inTime(closed, 'the connection stays open');
      },
      {
        level: 'trap',
        what: `${name}: connections older than an enrolment go on in plaintext also where mutual TLS is required`,
        fix: 'the kernel needs CONFIG_INET_DIAG_DESTROY',
      },
    );
    await attempt(
      'removal',
      'and everything can be undone',
      async () => {
        await rules.remove(world.pod, options);
        if ((await rules.state(world.pod, options)) !== 'none')
          throw new MeshError('RULES_FAILED', 'rules are left after their removal');
      },
      {},
    );
  } catch (error) {
    const needsRoot = process.getuid?.() !== 0;
    findings.push({
      id: 'trial',
      level: needsRoot ? 'unknown' : 'broken',
      what: `the redirection could not be tried: ${reasonOf(error)}`,
      ...(needsRoot ? { fix: 'run this as root' } : {}),
    });
  } finally {
    world.close();
  }
  return findings;
}

function expectAnswer(answer: string, start: string): void {
  if (!answer.startsWith(start))
    throw new MeshError(
      'RULES_FAILED',
      `a connection ended up elsewhere: "${answer}" in place of "${start}"`,
    );
}

async function inTime<T>(work: Promise<T>, late: string): Promise<T> {
  const timer = new AbortController();
  const limit = sleep(LIMIT_MS, timer.signal).then((): never => {
    throw new MeshError('RULES_FAILED', late);
  });
  // Settled by the race, or never looked at again.
  limit.catch(() => {});
  try {
    return await Promise.race([work, limit]);
  } finally {
    timer.abort();
  }
}

/** A pod and its peer, joined by a pair of interfaces. Two sleeping processes hold the namespaces. */
class World {
  readonly #holders: ChildProcess[] = [];
  readonly #fds = new Map<'pod' | 'peer', number>();
  readonly #listeners: TcpListener[] = [];
  readonly #sockets = new Set<net.Socket>();

  get pod(): number {
    return this.#fd('pod');
  }

  async make(): Promise<void> {
    for (const name of ['pod', 'peer'] as const) this.#fds.set(name, await this.#namespace());
    const peerPid = this.#holders[1]?.pid ?? 0;
    const ip = (name: 'pod' | 'peer', ...words: string[]) =>
      runToolOrFail(this.#fd(name), ['ip', ...words], '', 'making two namespaces to try the redirection in');
    await ip('pod', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(peerPid));
    for (const [name, own] of [
      ['pod', POD_IP],
      ['peer', PEER_IP],
    ] as const) {
      await ip(name, 'link', 'set', 'lo', 'up');
      await ip(name, 'link', 'set', 'eth0', 'up');
      await ip(name, 'addr', 'add', `${own}/24`, 'dev', 'eth0');
      await ip(name, 'route', 'add', 'default', 'dev', 'eth0');
    }
  }

  /** In the pod. Says on which port and for whom a connection arrived, each time it is asked. */
  listen(port: number, mark?: number): void {
    const { fd } = listenTcp({
      ip: '0.0.0.0',
      port,
      netnsFd: this.pod,
      ...(mark === undefined ? {} : { mark, transparent: 'required' as const }),
    });
    const accept = (handle: TcpHandle): void => {
      const to = originalDst(handle.fd);
      const from = `from ${handle.peer?.ip}`;
      const socket = handle.toSocket();
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('data', () =>
        socket.write(`${port} ${mark === undefined || to === undefined ? from : `${to.ip}:${to.port}`}`),
      );
      socket.resume();
    };
    this.#listeners.push(acceptFrom(fd, undefined, accept, () => {}));
  }

  async dial(from: 'pod' | 'peer', host: string, port: number, source?: string): Promise<net.Socket> {
    const fd = tcpSocket({
      family: 4,
      netnsFd: this.#fd(from),
      ...(source === undefined ? {} : { mark: ZTUNNEL_MARK, bindSource: { ip: ip(source) } }),
    });
    const socket = new net.Socket({ fd }).on('error', () => {});
    this.#sockets.add(socket);
    await inTime(
      new Promise<void>((resolve, reject) => {
        socket.once('connect', () => resolve());
        socket.once('error', (error) =>
          reject(new MeshError('RULES_FAILED', `connecting to ${host}:${port}: ${errnoOf(error)}`)),
        );
        socket.connect({ host, port });
      }),
      `no connection to ${host}:${port}`,
    );
    return socket;
  }

  async ask(socket: net.Socket): Promise<string> {
    const answer = new Promise<string>((resolve) => {
      socket.once('data', (chunk) => resolve(String(chunk)));
      socket.once('close', () => resolve('reset'));
    });
    socket.write('?');
    return inTime(answer, 'a connection gets no answer');
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    for (const listener of this.#listeners) listener.close();
    for (const fd of this.#fds.values()) closeFd(fd);
    for (const holder of this.#holders) holder.kill('SIGKILL');
  }

  #fd(name: 'pod' | 'peer'): number {
    const fd = this.#fds.get(name);
    if (fd === undefined) throw new TypeError('the namespaces are not made yet');
    return fd;
  }

  async #namespace(): Promise<number> {
    const holder = spawn('unshare', ['--net', 'sleep', '60'], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#holders.push(holder);
    let complaint = '';
    holder.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint += text;
    });
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => {});
    holder.once('error', (error) => failed.reject(error));
    holder.once('exit', () => failed.reject(new MeshError('SYSCALL_FAILED', complaint.trim())));
    const home = openNetns('/proc/self/ns/net');
    try {
      return await inTime(
        Promise.race([failed.promise, foreignNetns(holder.pid ?? 0, home)]),
        'no namespace',
      );
    } finally {
      closeFd(home);
    }
  }
}

/** The process is in its new namespace a moment after it has started. */
async function foreignNetns(pid: number, home: number): Promise<number> {
  for (let waitedMs = 0; waitedMs < LIMIT_MS; waitedMs += 5) {
    const fd = openNetns(`/proc/${pid}/ns/net`);
    if (!sameNetns(netnsId(fd), netnsId(home))) return fd;
    closeFd(fd);
    await sleep(5);
  }
  throw new MeshError('SYSCALL_FAILED', 'unshare made no namespace');
}
