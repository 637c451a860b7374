// The kubelets' side of exec, attach and port-forward: which pod and container is meant, and whether it can be reached now.

import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { errnoOf, MeshError } from '#base/errors.ts';
import type { Pod } from '#k8s/objects.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { tcpSocket } from '#linux/socket.ts';
import type { Tools } from '#local/machine/tools.ts';
import type { CommandRun, PodStreams } from '#local/streams/pod-streams.ts';
import { attachTo } from './attach.ts';
import { runCommandIn } from './command.ts';
import type { RunningContainer } from './container.ts';

export interface ReachablePod {
  readonly netnsPath: string;
  /** Aborts when the pod's network goes. */
  readonly gone: AbortSignal;
  container(name: string): RunningContainer | undefined;
}

export interface StreamsOfNode {
  reachable(podUid: string): ReachablePod | undefined;
}

const DIAL_LIMIT_MS = 10_000;
const LOCALHOSTS = [
  { family: 4, host: '127.0.0.1' },
  { family: 6, host: '::1' },
] as const;

/** All pods of the machine: kubelets are added as they start. */
export class KubeletStreams implements PodStreams {
  readonly #tools: Tools;
  readonly #nodes = new Map<string, StreamsOfNode>();

  constructor(tools: Tools) {
    this.#tools = tools;
  }

  addNode(name: string, node: StreamsOfNode): void {
    this.#nodes.set(name, node);
  }

  exec(pod: Pod, container: string, options: Parameters<PodStreams['exec']>[2]): CommandRun {
    const running = this.#container(pod, container);
    return (streams) => runCommandIn(this.#tools, running, options, streams);
  }

  attach(pod: Pod, container: string, options: Parameters<PodStreams['attach']>[2]): CommandRun {
    const running = this.#container(pod, container);
    const spec = pod.spec.containers.find(({ name }) => name === container);
    if (options.stdin && spec?.stdin !== true)
      throw refusal(
        `container ${container} takes no input: its pod needs "stdin: true"; attach without -i, or use kubectl exec -i`,
      );
    if (options.tty && !running.hasTerminal)
      throw refusal(
        `container ${container} has no terminal: its pod needs "tty: true"; attach without -t, or use kubectl exec -it`,
      );
    return (streams) => attachTo(running, streams);
  }

  portForward(pod: Pod): ReturnType<PodStreams['portForward']> {
    const { netnsPath, gone } = this.#reachable(pod);
    return { gone, dial: (port) => dialLocalhost(netnsPath, port) };
  }

  #reachable(pod: Pod): ReachablePod {
    const { name, uid = '' } = pod.metadata;
    const { nodeName = '' } = pod.spec;
    if (nodeName === '') throw refusal(`pod ${name} does not have a host assigned`);
    const node = this.#nodes.get(nodeName);
    if (node === undefined) throw refusal(`node ${nodeName} of pod ${name} does not run`);
    const found = node.reachable(uid);
    if (found === undefined)
      throw refusal(`pod ${name} is not running: its phase is ${pod.status?.phase ?? 'Pending'}`);
    return found;
  }

  #container(pod: Pod, container: string): RunningContainer {
    const running = this.#reachable(pod).container(container);
    if (running !== undefined) return running;
    const state = pod.status?.containerStatuses?.find(({ name }) => name === container)?.state;
    const why = state?.waiting?.reason ?? (state?.terminated !== undefined ? 'it has ended' : undefined);
    throw refusal(
      `container ${container} of pod ${pod.metadata.name} is not running${why === undefined ? '' : `: ${why}`}`,
    );
  }
}

const refusal = (message: string): MeshError => new MeshError('LOCAL_MACHINE_FAILED', message);

/** `localhost` of the pod, whichever family its program listens on. */
async function dialLocalhost(netnsPath: string, port: number): Promise<Duplex> {
  const failures: string[] = [];
  for (const { family, host } of LOCALHOSTS) {
    try {
      return await dial(netnsPath, family, host, port);
    } catch (error) {
      failures.push(`tcp${family} ${host}:${port}: ${wordsOf(error)}`);
    }
  }
  throw new MeshError(
    'CONNECT_FAILED',
    `failed to connect to localhost:${port} inside the pod: ${failures.join('; ')}`,
  );
}

function wordsOf(error: unknown): string {
  const errno = errnoOf(error);
  if (errno === 'ECONNREFUSED') return 'connection refused';
  return errno ?? (error instanceof Error ? error.message : String(error));
}

function dial(netnsPath: string, family: 4 | 6, host: string, port: number): Promise<Socket> {
  const netnsFd = openNetns(netnsPath);
  let socket: Socket;
  try {
    socket = new Socket({ fd: tcpSocket({ family, netnsFd }), allowHalfOpen: true });
  } finally {
    closeFd(netnsFd);
  }
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => socket.destroy(new Error('i/o timeout')), DIAL_LIMIT_MS);
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.connect({ host, port }, () => {
      clearTimeout(timer);
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}
