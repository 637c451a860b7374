// The agent's end of ZDS (cni.md A.12): every ztunnel that connects is told of all enrolled pods, then of each change.
// Several may be connected while one replaces another: additions go to the newest, deletions to all.

import { MeshError, reasonOf } from '#base/errors.ts';
import { closeFd, dupFd } from '#linux/netns.ts';
import { listenSeqpacket, type SeqpacketListener } from '#linux/seqpacket.ts';
import type { ZdsWorkloadInfo } from '#proto/zds.ts';
import type { Logger } from '#telemetry/log.ts';
import { createZdsConnection, type ZdsConnection } from './zds-connection.ts';

export interface ZdsPod {
  readonly uid: string;
  readonly info: ZdsWorkloadInfo;
  /** Undefined: enrolled, but its namespace is not held; ztunnel is told to keep what it has. */
  readonly netnsFd: number | undefined;
}

/** The enrolled pods as they are now. */
export interface ZdsPods {
  uids(): readonly string[];
  get(uid: string): ZdsPod | undefined;
}

export interface ZdsServer {
  readonly connectedCount: number;
  /**
   * Hands the pod to the newest ztunnel and waits until its listeners are bound. The descriptor is duplicated.
   * `waitMs`: how long to wait for a ztunnel if none is connected.
   * @throws MeshError `CNI_REFUSED`: no ztunnel, or its refusal; `ZDS_PROTOCOL`: connection lost on the way.
   */
  add(pod: ZdsPod & { readonly netnsFd: number }, waitMs?: number): Promise<void>;
  /** Tells every ztunnel; nobody connected is fine (the next snapshot does not name the pod). */
  del(uid: string): Promise<void>;
  close(): void;
}

export interface ZdsServerOptions {
  readonly path: string;
  readonly timeoutMs?: number;
  /** A ztunnel has been told of all pods. */
  readonly onSnapshot?: () => void;
}

/** For the hello and for each ack (cni.md A.12.1). */
const TIMEOUT_MS = 5000;

export function createZdsServer(
  deps: { readonly pods: ZdsPods; readonly log: Logger },
  options: ZdsServerOptions,
): ZdsServer {
  const { pods, log } = deps;
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  /** Oldest first. A connection is here from the first moment, so that no change can fall between snapshot and list. */
  const connections: ZdsConnection[] = [];
  const waitingForOne = new Set<() => void>();
  let isClosed = false;

  const listener: SeqpacketListener = listenSeqpacket(options.path, (socket) => {
    const connection = createZdsConnection(socket, timeoutMs);
    connections.push(connection);
    connection.onClose((reason) => {
      const at = connections.indexOf(connection);
      if (at >= 0) connections.splice(at, 1);
      log.info('ztunnel disconnected', { reason, connected: connections.length });
    });
    greet(connection).catch((error: unknown) => connection.close(reasonOf(error)));
  });

  async function greet(connection: ZdsConnection): Promise<void> {
    await connection.greeted;
    log.info('new ztunnel connected', { connected: connections.length });
    const snapshot = sendSnapshot(connection);
    for (const wake of [...waitingForOne]) wake();
    await snapshot;
  }

  async function sendSnapshot(connection: ZdsConnection): Promise<void> {
    // All requests are queued before anything else can be: a deletion asked for meanwhile follows them.
    const answers = pods.uids().map(async (uid) => {
      const error = await announce(connection, uid);
      if (error !== undefined) log.warn('ztunnel did not take a pod of the snapshot', { uid, error });
    });
    const done = connection.exchange({ kind: 'snapshot-sent' });
    await Promise.all(answers);
    const error = await done;
    if (error !== undefined) log.warn('ztunnel did not take the snapshot', { error });
    else log.info('ztunnel has the snapshot', { pods: answers.length });
    options.onSnapshot?.();
  }

  async function announce(connection: ZdsConnection, uid: string): Promise<string | undefined> {
    const pod = pods.get(uid);
    if (pod === undefined) return undefined;
    if (pod.netnsFd === undefined) return connection.exchange({ kind: 'keep', uid });
    return exchangeWithFd(connection, { ...pod, netnsFd: pod.netnsFd });
  }

  /** The pod may be dropped while the request waits its turn; the copy keeps the namespace until the ack. */
  async function exchangeWithFd(
    connection: ZdsConnection,
    pod: ZdsPod & { readonly netnsFd: number },
  ): Promise<string | undefined> {
    const copy = dupFd(pod.netnsFd);
    try {
      return await connection.exchange({ kind: 'add', uid: pod.uid, info: pod.info }, copy);
    } finally {
      closeFd(copy);
    }
  }

  const newest = (): ZdsConnection | undefined => connections.findLast(({ isClosed }) => !isClosed);

  function waitForOne(limitMs: number): Promise<void> {
    if (newest() !== undefined || limitMs === 0 || isClosed) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        waitingForOne.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, limitMs);
      waitingForOne.add(wake);
    });
  }

  return {
    get connectedCount() {
      return connections.length;
    },
    async add(pod, waitMs = 0) {
      await waitForOne(waitMs);
      const connection = newest();
      if (connection === undefined)
        throw new MeshError(
          'CNI_REFUSED',
          `no ztunnel connection on this node, so pod ${pod.info.namespace}/${pod.info.name} cannot join the mesh; is the ztunnel pod running?`,
          { details: { uid: pod.uid } },
        );
      const error = await exchangeWithFd(connection, pod);
      if (error !== undefined)
        throw new MeshError(
          'CNI_REFUSED',
          `ztunnel did not accept pod ${pod.info.namespace}/${pod.info.name}: ${error}`,
          { details: { uid: pod.uid } },
        );
    },
    async del(uid) {
      // A copy: a connection that breaks takes itself out of the list.
      const results = await Promise.allSettled(
        [...connections].map((connection) => connection.exchange({ kind: 'del', uid })),
      );
      for (const result of results) {
        // A ztunnel that is gone forgets the pod by itself: the next snapshot does not name it.
        if (result.status === 'rejected')
          log.debug('a ztunnel went away before it heard of a removal', {
            uid,
            error: reasonOf(result.reason),
          });
        else if (result.value !== undefined)
          log.warn('ztunnel reported an error for a removal', { uid, error: result.value });
      }
    },
    close() {
      isClosed = true;
      listener.close();
      for (const wake of [...waitingForOne]) wake();
      for (const connection of [...connections]) connection.close('the agent is stopping');
    },
  };
}
