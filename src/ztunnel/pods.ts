// The pods this node's ztunnel serves: one scope each, which owns listeners, sessions and connections, so that removing a
// pod is one call. Which pods there are is said over ZDS (zds.ts); what happens to a connection stands behind `serve`.

import type { Scope } from '#base/scope.ts';
import { formatSpiffeId, type SpiffeId } from '#model/identity.ts';
import type { Workload } from '#model/workload.ts';
import type { Logger } from '#telemetry/log.ts';
import type { CapturedConnection, OpenCapture, PodCapture, PodNetns } from './capture/capture.ts';
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

export interface PodsDeps {
  readonly openCapture: OpenCapture;
  readonly serve: (pod: Pod) => PodService;
  readonly connections: Connections;
  readonly scope: Scope;
  readonly log: Logger;
  /** Told when a proxy started or stopped. */
  readonly onCount: (change: 'started' | 'stopped') => void;
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
      const capture = this.#deps.openCapture(netns, (connection) => service?.onConnection(connection));
      scope.onClose(() => {
        capture.closeListeners();
        capture.dns?.close();
      });
      const pod: Pod = { uid, info, scope, capture };
      service = this.#deps.serve(pod);
      isOwner = true;
      this.#running.set(uid, { ...pod, netns, service });
    } catch (error) {
      scope.close();
      throw error;
    }
    this.#deps.onCount('started');
    this.#deps.log.info('pod proxy started', { uid, name: info.name, namespace: info.namespace });
  }

  /** Ends the pod's listeners, sessions and connections at once. An unknown uid is fine. */
  remove(uid: string): void {
    const pod = this.#running.get(uid);
    if (pod === undefined) return;
    this.#running.delete(uid);
    const cut = this.#deps.connections.closeAll(uid);
    pod.scope.close();
    this.#deps.onCount('stopped');
    this.#deps.log.info('pod proxy stopped', {
      uid,
      name: pod.info.name,
      namespace: pod.info.namespace,
      connections: cut,
    });
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
