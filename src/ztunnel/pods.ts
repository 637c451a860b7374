// The pods this node's ztunnel serves: one scope each, which owns listeners, sessions and connections, so that removing a
// pod is one call. Which pods there are is said over ZDS (zds.ts); what happens to a connection stands behind `serve`.

import type { Scope } from '#base/scope.ts';
import { formatSpiffeId, type SpiffeId } from '#model/identity.ts';
import type { Workload } from '#model/workload.ts';
import type { Logger } from '#telemetry/log.ts';
import type {
  CapturedConnection,
  CaptureShare,
  OpenCapture,
  PodCapture,
  PodNetns,
} from './capture/capture.ts';
import type { Connections } from './connections.ts';

export interface PodInfo {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

export interface Pod {
  readonly uid: string;
  readonly info: PodInfo;
  readonly scope: Scope;
  readonly capture: PodCapture;
}

/** Trust domain from the control plane, the rest from the CNI agent: a pod's proxy can be nobody else (ztunnel.md §4.4). */
export function identityOf({ info }: Pod, local: Workload): SpiffeId {
  return formatSpiffeId({ trustDomain: local.trustDomain, ...info });
}

/** What takes a pod's connections. Closing belongs to the pod's scope. */
export interface PodService {
  onConnection(connection: CapturedConnection): void;
  /** No new streams on existing tunnels; what is under way goes on. */
  startDrain(): void;
  /** Tunnels and connections on their way to being counted elsewhere. */
  readonly liveCount: number;
}

/** Other threads that serve the same pods. */
export interface OtherThreads {
  readonly count: number;
  /** `shares`: one for each of them. */
  addPod(uid: string, info: PodInfo, shares: readonly CaptureShare[]): void;
  /** Resolves with the number of connections that were cut there. */
  removePod(uid: string): Promise<number>;
}

export interface PodsDeps {
  readonly openCapture: OpenCapture;
  readonly serve: (pod: Pod) => PodService;
  readonly connections: Connections;
  readonly scope: Scope;
  readonly log: Logger;
  /** Told when a proxy started or stopped. */
  readonly onCount: (change: 'started' | 'stopped') => void;
  /** Told of a connection that could not be taken. */
  readonly onRefused: () => void;
  /** Absent: this thread serves alone. */
  readonly others?: OtherThreads | undefined;
}

interface Running extends Pod {
  readonly netns: PodNetns;
  readonly service: PodService;
}

export class Pods {
  readonly #deps: PodsDeps;
  readonly #running = new Map<string, Running>();
  #draining = false;

  constructor(deps: PodsDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#running.size;
  }

  get(uid: string): Pod | undefined {
    return this.#running.get(uid);
  }

  entries(): ReadonlyMap<string, Pod> {
    return this.#running;
  }

  /**
   * Binds the pod's listeners before it returns. The same pod in the same namespace is left alone; in another namespace
   * the old proxy goes first. Owns `netns` once it returns; when it throws, the caller keeps it.
   */
  add(uid: string, info: PodInfo, netns: PodNetns): void {
    const old = this.#running.get(uid);
    if (old !== undefined && old.netns.id === netns.id) {
      netns.close();
      return;
    }
    if (old !== undefined) this.remove(uid);
    const scope = this.#deps.scope.child(`pod ${info.namespace}/${info.name}`);
    // Registered first, so closed last: nothing of the pod may meet a descriptor number that was given away.
    let isOwner = false;
    scope.onClose(() => {
      if (isOwner) netns.close();
    });
    try {
      // Connections arrive in later turns of the loop only, when `service` is there.
      let service: PodService | undefined;
      const { openCapture, others, onRefused } = this.#deps;
      const capture = openCapture(netns, (connection) => service?.onConnection(connection), {
        otherThreads: others?.count ?? 0,
        onRefused,
      });
      scope.onClose(() => {
        capture.closeListeners();
        capture.dns?.close();
      });
      const pod: Pod = { uid, info, scope, capture };
      service = this.#deps.serve(pod);
      others?.addPod(uid, info, capture.takeShares?.() ?? []);
      isOwner = true;
      this.#running.set(uid, { ...pod, netns, service });
    } catch (error) {
      scope.close();
      throw error;
    }
    this.#deps.onCount('started');
    this.#deps.log.info('pod proxy started', { uid, name: info.name, namespace: info.namespace });
  }

  /** Ends the pod's listeners, sessions and connections at once; returns how many of these. An unknown uid is fine. */
  remove(uid: string): number {
    const pod = this.#running.get(uid);
    if (pod === undefined) return 0;
    this.#running.delete(uid);
    const { connections, onCount, others } = this.#deps;
    const cut = connections.closeAll(uid);
    pod.scope.close();
    onCount('stopped');
    const elsewhere = others?.removePod(uid);
    if (elsewhere === undefined) this.#sayStopped(pod, cut);
    else
      elsewhere.then(
        (count) => this.#sayStopped(pod, cut + count),
        () => this.#sayStopped(pod, cut),
      );
    return cut;
  }

  #sayStopped({ uid, info: { name, namespace } }: Pod, connections: number): void {
    this.#deps.log.info('pod proxy stopped', { uid, name, namespace, connections });
  }

  /** Removes every pod that is not in the set. */
  retain(uids: ReadonlySet<string>): void {
    for (const uid of [...this.#running.keys()]) if (!uids.has(uid)) this.remove(uid);
  }

  get liveCount(): number {
    let count = 0;
    for (const { service } of this.#running.values()) count += service.liveCount;
    return count;
  }

  /** Closes every listener at once; connections and tunnels finish what they have. */
  startDrain(): void {
    if (this.#draining) return;
    this.#draining = true;
    for (const pod of this.#running.values()) {
      pod.capture.closeListeners();
      pod.service.startDrain();
    }
  }
}
