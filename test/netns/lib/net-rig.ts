// Two nodes with pods on routed pairs, laid out by the emulated machine's own texts, without API server or kubelets: for tests
// of rules with real traffic. Objects are put in by hand.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Informer, InformerHandlers } from '#k8s/informer.ts';
import { objectKey } from '#k8s/informer.ts';
import type { KubeObject } from '#k8s/objects.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import {
  cableBatch,
  machineBatch,
  machineSettings,
  nodeBatch,
  nodeSettings,
  peerBatch,
} from '#local/machine/node-network.ts';
import { nodeAddresses, planNode, podAddresses } from '#local/machine/plan.ts';
import { DEFAULT_PATH, findTools } from '#local/machine/tools.ts';
import { linkBatches } from '#local/net/pod-network.ts';
import { ip } from '#net/ip.ts';
import type { AskCommand } from './net-agent.ts';

export const PODS = {
  a1: { ip: '10.244.1.2', node: 'n1' },
  a2: { ip: '10.244.1.3', node: 'n1' },
  b1: { ip: '10.244.2.2', node: 'n2' },
  b2: { ip: '10.244.2.3', node: 'n2' },
} as const;
const NODES = [planNode('n1', 1, 'dual'), planNode('n2', 2, 'dual')];

/** The second address of a pod. */
export function addressV6(name: keyof typeof PODS): string {
  const node = NODES.find((each) => each.name === PODS[name].node) ?? NODES[0]!;
  return podAddresses(node, ip(PODS[name].ip))[1]!;
}

/** `machine` is the namespace around the nodes: clients from outside the cluster. */
export type Place = keyof typeof PODS | 'n1' | 'n2' | 'machine';

export interface NetRig {
  readonly nodes: readonly EmulatedNode[];
  /** `NAME:PORT ADDRESS`: who answered on which port, and whom it saw; or the errno; or `silence`. */
  ask(from: Place, host: string, port: number, options?: Partial<AskCommand>): Promise<string>;
  close(): void;
}

/** Every pod answers on these, TCP and UDP. */
export const POD_PORTS = [8080, 9090, 15_008];

export async function startNetRig(tag: string): Promise<NetRig> {
  const prefix = `cv${tag}${process.pid}`;
  const netnsOf = (place: Place): string => (place in PODS ? `cni-${prefix}${place}` : `${prefix}${place}`);
  const places = [...(Object.keys(PODS) as Place[]), 'n1', 'n2', 'machine'] as const;
  const batch = (place: Place, text: string): void => {
    execFileSync('ip', ['-n', netnsOf(place), '-batch', '-'], {
      input: text,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
  };
  const set = (place: Place, settings: Readonly<Record<string, string>>): void => {
    const script = Object.entries(settings).map(([path, value]) => `echo ${value} > /proc/sys/net/${path}`);
    execFileSync('ip', ['netns', 'exec', netnsOf(place), 'sh', '-c', script.join('\n')]);
  };
  const agents = new Map<Place, ChildProcess>();
  const close = (): void => {
    for (const agent of agents.values()) agent.kill('SIGKILL');
    for (const place of places) {
      try {
        execFileSync('ip', ['netns', 'del', netnsOf(place)], { stdio: 'ignore' });
      } catch {
        // never made
      }
    }
  };
  const tools = findTools(DEFAULT_PATH);
  try {
    for (const place of places) execFileSync('ip', ['netns', 'add', netnsOf(place)]);
    set('machine', machineSettings('dual'));
    batch('machine', machineBatch('dual'));
    for (const node of NODES) {
      const name = node.name as 'n1' | 'n2';
      batch('machine', cableBatch(node, netnsOf(name)));
      set(name, nodeSettings(node));
      batch(name, nodeBatch(node));
      batch(
        name,
        peerBatch(
          NODES.filter((peer) => peer !== node),
          [],
        ),
      );
    }
    for (const [name, pod] of Object.entries(PODS)) {
      const node = NODES.find((each) => each.name === pod.node) ?? NODES[0]!;
      const nodeIps = nodeAddresses(node);
      const texts = linkBatches({
        podUid: `${prefix}${name}`,
        addresses: podAddresses(node, ip(pod.ip)).map((podIp, index) => ({ podIp, nodeIp: nodeIps[index]! })),
      });
      batch(pod.node, `${texts.node}\n`);
      batch(name as Place, `${texts.pod}\n`);
    }
    await Promise.all(
      places.map(async (place) => {
        const ports = place in PODS ? POD_PORTS.join(',') : '';
        const agent = spawn(
          'ip',
          [
            'netns',
            'exec',
            netnsOf(place),
            process.execPath,
            join(import.meta.dirname, 'net-agent.ts'),
            place,
            ports,
          ],
          { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
        );
        agent.setMaxListeners(0); // one for each question under way
        agents.set(place, agent);
        await new Promise<void>((resolve, reject) => {
          agent.once('message', () => resolve());
          agent.once('exit', (code) => reject(new Error(`the programs of ${place} ended with code ${code}`)));
        });
      }),
    );
  } catch (error) {
    close();
    throw error;
  }

  let lastId = 0;
  return {
    close,
    nodes: NODES.map((plan) => {
      const netnsPath = `/var/run/netns/${netnsOf(plan.name as Place)}`;
      const unused = (): never => {
        throw new Error('the rig has no file systems of nodes');
      };
      return {
        plan,
        tools,
        keeper: { pid: 0, startTicks: '' },
        rootPath: '',
        netnsPath,
        enter: unused,
        run: unused,
        mustRun: unused,
        nft: async (ruleset) => {
          execFileSync('nsenter', [`--net=${netnsPath}`, '--', 'nft', '-f', '-'], { input: ruleset });
        },
      } satisfies EmulatedNode;
    }),
    ask(from, host, port, options = {}) {
      const agent = agents.get(from);
      if (agent === undefined) throw new Error(`no programs in ${from}`);
      const command: AskCommand = { protocol: 'tcp', ...options, id: ++lastId, host, port };
      return new Promise((resolve) => {
        const hear = (answer: unknown): void => {
          const { id, text } = answer as { id: number; text: string };
          if (id !== command.id) return;
          agent.off('message', hear);
          resolve(text);
        };
        agent.on('message', hear);
        agent.send(command);
      });
    },
  };
}

/** An informer whose objects are set by the test. */
export class HandInformer<T extends KubeObject> implements Informer<T> {
  readonly synced = Promise.resolve();
  readonly hasSynced = true;
  readonly #held = new Map<string, T>();
  readonly #handlers: InformerHandlers<T>[] = [];

  get(key: string): T | undefined {
    return this.#held.get(key);
  }
  all(): IterableIterator<T> {
    return this.#held.values();
  }
  addHandlers(handlers: InformerHandlers<T>): void {
    this.#handlers.push(handlers);
  }
  put(object: T): void {
    const old = this.#held.get(objectKey(object));
    this.#held.set(objectKey(object), object);
    for (const { upsert } of this.#handlers) upsert(object, old);
  }
  remove(key: string): void {
    const old = this.#held.get(key);
    this.#held.delete(key);
    if (old !== undefined) for (const { remove } of this.#handlers) remove(old);
  }
  close(): void {}
}
