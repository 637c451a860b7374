// The emulated nodes of the machine, kept as the Node objects of the API ask for them (node-wishes.ts): made, given their
// kubelet and service rules, ended as by a power failure, taken away. A node whose keeper died is made anew.

import { Backoff } from '#base/backoff.ts';
import { sleep } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Informer } from '#k8s/informer.ts';
import { NODES, type Node } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import type { EventSink } from '#local/kubelet/events.ts';
import type { Kubelet } from '#local/kubelet/kubelet.ts';
import type { ClusterNetwork } from '#local/net/cluster-network.ts';
import type { Logger } from '#telemetry/log.ts';
import {
  dismantleNode,
  dismantleOthers,
  type EmulatedNode,
  ensureNode,
  type NodeDeps,
  type NodeOptions,
} from './node.ts';
import { peerBatch } from './node-network.ts';
import { freeIndex, type NodeWish, podCidrsOf, wishOf } from './node-wishes.ts';
import { type ClusterFamily, familiesOf, indexOfPodCidr, type NodePlan, planNode } from './plan.ts';
import { isAlive } from './process-id.ts';

export interface NodeManagerDeps extends Omit<NodeDeps, 'rootDevices'> {
  readonly client: KubeClient;
  readonly nodes: Informer<Node>;
  readonly network: Pick<ClusterNetwork, 'add' | 'remove'>;
  readonly startKubelet: (node: EmulatedNode) => Promise<Kubelet>;
  readonly events: EventSink;
  readonly log: Logger;
}

export interface NodeManager {
  /** Containers of a former LOCAL that still ran. */
  readonly adopted: number;
  /** Ends the containers of every node and follows no wish any more. */
  stop(graceMs: number): Promise<void>;
}

interface Host {
  readonly node: EmulatedNode;
  readonly kubelet: Kubelet;
  /** The others whose pods it knows the way to. */
  peers: readonly NodePlan[];
}

/** How often keepers are looked at, and so how long a dead one may go unnoticed. */
const KEEPER_POLL_MS = 1000;
const REMOVAL_GRACE_MS = 2500;
/** A kubelet that is cut off ends its loops as soon as what they wait for has died with the node. */
const CUT_LIMIT_MS = 5000;

/** Resolves when every node that is wished for is up. @throws MeshError when one of them cannot be made. */
export async function startNodeManager(deps: NodeManagerDeps, options: NodeOptions): Promise<NodeManager> {
  const manager = new Manager(deps, options);
  await manager.start();
  return manager;
}

class Manager implements NodeManager {
  readonly #deps: NodeManagerDeps;
  readonly #options: NodeOptions;
  readonly #nodeDeps: NodeDeps;
  readonly #hosts = new Map<string, Host>();
  /** Indices given a moment ago, until the copy shows them. */
  readonly #given = new Map<string, number>();
  /** Per node: what is under way; a change meanwhile makes it look once more. */
  readonly #working = new Map<string, { again: boolean; done: Promise<void> }>();
  readonly #backoffs = new Map<string, Backoff>();
  readonly #refused = new Set<string>();
  #poll: NodeJS.Timeout | undefined;
  #routing: Promise<void> = Promise.resolve();
  #closed = false;
  adopted = 0;

  constructor(deps: NodeManagerDeps, options: NodeOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#nodeDeps = { tools: deps.tools, rootDevices: new Map() };
  }

  async start(): Promise<void> {
    const { nodes } = this.#deps;
    await nodes.synced;
    const present = [...nodes.all()];
    const on = present
      .filter((node) => this.#wishOf(node).kind === 'on')
      .map(({ metadata }) => metadata.name);
    await dismantleOthers(this.#nodeDeps, this.#options, new Set(on));
    await Promise.all(present.map(({ metadata }) => this.#reconcile(metadata.name)));
    const look = ({ metadata }: Node): void => this.#look(metadata.name);
    nodes.addHandlers({
      upsert: (node, old) => (wishChanged(node, old, this.#options.ipFamily) ? look(node) : undefined),
      remove: look,
    });
    this.#poll = setInterval(() => {
      for (const [name, { node }] of this.#hosts) if (!isAlive(node.keeper)) this.#look(name);
    }, KEEPER_POLL_MS);
  }

  async stop(graceMs: number): Promise<void> {
    this.#closed = true;
    clearInterval(this.#poll);
    await Promise.all([...this.#working.values()].map(({ done }) => done));
    await Promise.all([...this.#hosts.values()].map(({ kubelet }) => kubelet.stopContainers(graceMs)));
  }

  #wishOf(node: Node | undefined): NodeWish {
    return wishOf(node, this.#options.ipFamily);
  }

  /** One look at a time per node. */
  #look(name: string): void {
    if (this.#closed) return;
    const working = this.#working.get(name);
    if (working !== undefined) {
      working.again = true;
      return;
    }
    const work = { again: false, done: Promise.resolve() };
    this.#working.set(name, work);
    work.done = this.#attempt(name).then((retryMs) => {
      this.#working.delete(name);
      if (retryMs !== undefined) setTimeout(() => this.#look(name), retryMs).unref();
      else if (work.again) this.#look(name);
    });
  }

  /** Never rejects; returns when to try again. */
  async #attempt(name: string): Promise<number | undefined> {
    try {
      await this.#reconcile(name);
      this.#backoffs.delete(name);
      return undefined;
    } catch (error) {
      const { log, nodes, events } = this.#deps;
      const backoff = this.#backoffs.get(name) ?? new Backoff({ initialMs: 1000, maxMs: 30_000 });
      this.#backoffs.set(name, backoff);
      log.error('a node could not be brought to what is wished', { node: name, error: reasonOf(error) });
      const node = nodes.get(name);
      if (node !== undefined) events.record(node, 'Warning', 'NodeSetupFailed', reasonOf(error));
      return backoff.next();
    }
  }

  async #reconcile(name: string): Promise<void> {
    const { nodes, events, log } = this.#deps;
    const object = nodes.get(name);
    const wish = this.#wishOf(object);
    const host = this.#hosts.get(name);
    if (host !== undefined && (wish.kind !== 'on' || !isAlive(host.node.keeper))) {
      const lost = wish.kind === 'on';
      if (wish.kind === 'absent') await host.kubelet.stopContainers(REMOVAL_GRACE_MS);
      await this.#cut(name, host);
      if (lost) {
        log.warn('the keeper of a node died; the node is started again', { node: name });
        if (object !== undefined)
          events.record(
            object,
            'Warning',
            'Rebooted',
            'the process that holds the node ended; it was started again',
          );
      }
    }
    switch (wish.kind) {
      case 'unplanned':
        return this.#plan(object as Node);
      case 'impossible':
        if (this.#refused.has(`${name} ${wish.reason}`)) return;
        this.#refused.add(`${name} ${wish.reason}`);
        events.record(object as Node, 'Warning', 'NodeSetupFailed', wish.reason);
        return;
      case 'on':
        if (!this.#hosts.has(name)) await this.#bringUp(wish.plan);
        return;
      case 'absent':
        this.#given.delete(name);
        return;
      case 'off':
        return;
    }
  }

  /** Gives a new node its addresses; what follows is the answer of the API to that. */
  async #plan(object: Node): Promise<void> {
    const { client, nodes } = this.#deps;
    const { name, uid } = object.metadata;
    const taken = new Set(this.#given.values());
    const [family] = familiesOf(this.#options.ipFamily);
    for (const { spec } of nodes.all()) taken.add(indexOfPodCidr(spec?.podCIDR ?? '', family) ?? 0);
    const index = this.#given.get(name) ?? freeIndex(name, taken);
    if (index === undefined)
      throw new MeshError(
        'LOCAL_MACHINE_FAILED',
        `no addresses are left for node ${name}; remove another node first`,
      );
    this.#given.set(name, index);
    const podCIDRs = podCidrsOf(planNode(name, index, this.#options.ipFamily));
    const body = {
      metadata: { uid },
      spec: { podCIDR: podCIDRs[0], podCIDRs, providerID: `culvert://${name}` },
    };
    let planned: Node;
    try {
      planned = await client.patch(NODES, name, 'merge', body);
    } catch (error) {
      if (isNotFound(error)) return;
      throw error;
    }
    const wish = this.#wishOf(planned);
    if (wish.kind === 'on' && !this.#hosts.has(name)) await this.#bringUp(wish.plan);
  }

  async #bringUp(plan: NodePlan): Promise<void> {
    const { startKubelet, network } = this.#deps;
    const node = await ensureNode(this.#nodeDeps, plan, this.#options);
    await network.add(node);
    const kubelet = await startKubelet(node);
    this.adopted += kubelet.adopted;
    this.#hosts.set(plan.name, { node, kubelet, peers: [] });
    await this.#syncRoutes();
  }

  async #cut(name: string, host: Host): Promise<void> {
    const { network } = this.#deps;
    this.#hosts.delete(name);
    network.remove(name);
    // Its loops are told to end before their programs die, or they would start them again.
    const closing = host.kubelet.close();
    await dismantleNode(this.#nodeDeps, host.node.plan, this.#options);
    await Promise.race([closing, sleep(CUT_LIMIT_MS)]);
    await this.#syncRoutes();
  }

  /** Every node knows the way to the pods of every other. One round at a time, each with what is there by then. */
  #syncRoutes(): Promise<void> {
    const round = this.#routing.then(async () => {
      const all = [...this.#hosts.values()];
      await Promise.all(all.map((host) => this.#syncRoutesOf(host, all)));
    });
    this.#routing = round.catch(() => {});
    return round;
  }

  async #syncRoutesOf(host: Host, all: readonly Host[]): Promise<void> {
    const { tools } = this.#deps;
    const wanted = all.filter((other) => other !== host).map(({ node }) => node.plan);
    const added = wanted.filter((plan) => !host.peers.includes(plan));
    const removed = host.peers.filter((plan) => !wanted.includes(plan));
    if (added.length === 0 && removed.length === 0) return;
    // -force: a route to a node that is gone may be gone, too.
    const { code, stderr } = await host.node.run(tools.ip, ['-force', '-batch', '-'], {
      input: peerBatch(added, removed),
    });
    if (code !== 0 && removed.length === 0 && isAlive(host.node.keeper))
      throw new MeshError('LOCAL_MACHINE_FAILED', `routes of node ${host.node.plan.name}: ${stderr.trim()}`);
    host.peers = wanted;
  }
}

function wishChanged(node: Node, old: Node | undefined, family: ClusterFamily): boolean {
  return old === undefined || JSON.stringify(wishOf(node, family)) !== JSON.stringify(wishOf(old, family));
}
