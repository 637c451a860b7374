// The client of ZDS: the CNI agent hands over pods and their network namespaces, one message and one answer at a time
// (ztunnel.md §9). Connection, snapshot and retry rules live here; what a pod's proxy is lives in pods.ts.

import { Backoff } from '#base/backoff.ts';
import { type Random, sleep } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import { decodeWorkloadRequest, encodeAck, encodeHello, type ZdsRequest } from '#proto/zds.ts';
import type { Logger } from '#telemetry/log.ts';
import type { PodNetns } from './capture/capture.ts';
import type { PodInfo } from './pods.ts';
import type { Readiness } from './readiness.ts';

export const ZDS_READINESS_TASK = 'workload proxy manager';
const POD_RETRY_MS = 5_000;

/** A packet connection that carries descriptors; `linux/seqpacket.ts` makes the real one. */
export interface PacketConnection {
  send(message: Uint8Array): Promise<void>;
  onMessage(handler: (message: Uint8Array, fds: number[]) => void): void;
  onClose(handler: (error?: unknown) => void): void;
  close(): void;
}

/** Where pods go; `pods.ts` is the real one. */
export interface PodRegistry {
  /** Owns `netns` once it returns; when it throws, the caller keeps it. */
  add(uid: string, info: PodInfo, netns: PodNetns): void;
  remove(uid: string): void;
  retain(uids: ReadonlySet<string>): void;
}

export interface ZdsDeps {
  readonly connect: (path: string) => Promise<PacketConnection>;
  /** Takes ownership of a received descriptor. */
  readonly netns: (fd: number) => PodNetns;
  readonly discard: (fd: number) => void;
  readonly pods: PodRegistry;
  /** Resolves when every thread has done what it was told; the agent is answered then. Absent: done when it is told. */
  readonly settle?: (() => Promise<unknown>) | undefined;
  readonly readiness: Readiness;
  readonly log: Logger;
  readonly scope: Scope;
  readonly random: Random;
  /** The agent broke the protocol in a way that leaves the pods unknown: the process is to end with status 1. */
  readonly onFatal: (error: MeshError) => void;
  readonly onPending: (count: number) => void;
  /** The agent has named every pod of this node, after each connection. */
  readonly onSnapshot?: () => void;
}

export interface ZdsOptions {
  readonly path: string;
  /** 5 s as the peers have it; tests shorten it. */
  readonly podRetryMs?: number;
}

export interface ZdsClient {
  /** Pods whose listeners could not be bound yet, by uid. */
  pending(): ReadonlyMap<string, PodInfo>;
  /** No further message is read. */
  stop(): void;
}

export function startZdsClient(deps: ZdsDeps, options: ZdsOptions): ZdsClient {
  const scope = deps.scope.child('zds client');
  const aborted = new AbortController();
  scope.onClose(() => aborted.abort());
  let session: ZdsSession | undefined;
  deps.readiness.block(ZDS_READINESS_TASK);
  const run = async (): Promise<void> => {
    const connectDelay = new Backoff({ initialMs: 20, maxMs: 15_000 });
    const helloDelay = new Backoff({ initialMs: 5, maxMs: 15_000, jitter: 0.2, random: deps.random });
    let isFirstFailure = true;
    while (!scope.closed) {
      let connection: PacketConnection;
      try {
        connection = await deps.connect(options.path);
      } catch (error) {
        const say = isFirstFailure ? deps.log.warn : deps.log.debug;
        say('the CNI agent is not reachable yet', { path: options.path, error: reasonOf(error) });
        isFirstFailure = false;
        await sleep(connectDelay.next(), aborted.signal);
        continue;
      }
      if (scope.closed) return connection.close();
      connectDelay.reset();
      isFirstFailure = true;
      session = new ZdsSession(deps, options, scope, connection);
      try {
        const ended = session.ended;
        await connection.send(encodeHello());
        helloDelay.reset();
        deps.log.info('connected to the CNI agent', { path: options.path });
        const reason = await ended;
        if (!scope.closed) deps.log.warn('the CNI agent is gone; reconnecting', { error: reason });
      } catch (error) {
        connection.close();
        deps.log.warn('greeting the CNI agent failed', { error: reasonOf(error) });
        await sleep(helloDelay.next(), aborted.signal);
      } finally {
        session.close();
        deps.readiness.block(ZDS_READINESS_TASK);
      }
    }
  };
  run().catch((error) =>
    deps.onFatal(MeshError.from(error, 'ZDS_PROTOCOL', 'the client of the CNI agent ended unexpectedly')),
  );
  return { pending: () => session?.pending() ?? new Map(), stop: () => scope.close() };
}

/** What one connection to the agent has said so far. Snapshot and pending pods start over with each connection. */
class ZdsSession {
  readonly ended: Promise<string>;
  readonly #deps: ZdsDeps;
  readonly #scope: Scope;
  readonly #connection: PacketConnection;
  readonly #retryMs: number;
  /** Uids named before SnapshotSent; undefined afterwards. */
  #snapshot: Set<string> | undefined = new Set();
  readonly #waiting = new Map<string, { readonly info: PodInfo; readonly netns: PodNetns }>();
  #retryArmed = false;
  #end: (reason: string) => void = () => {};

  constructor(deps: ZdsDeps, options: ZdsOptions, parent: Scope, connection: PacketConnection) {
    this.#deps = deps;
    this.#scope = parent.child('zds session');
    this.#connection = connection;
    this.#retryMs = options.podRetryMs ?? POD_RETRY_MS;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#scope.onClose(() => {
      connection.close();
      for (const { netns } of this.#waiting.values()) netns.close();
      this.#waiting.clear();
      this.#end('stopped');
    });
    connection.onClose((error) => this.#end(error === undefined ? 'end of connection' : reasonOf(error)));
    connection.onMessage((message, fds) => this.#receive(message, fds));
  }

  pending(): ReadonlyMap<string, PodInfo> {
    return new Map([...this.#waiting].map(([uid, { info }]) => [uid, info]));
  }

  close(): void {
    this.#scope.close();
  }

  #receive(message: Uint8Array, fds: number[]): void {
    if (this.#scope.closed) {
      for (const fd of fds) this.#deps.discard(fd);
      return;
    }
    let request: ZdsRequest;
    try {
      request = decodeWorkloadRequest(message);
      if (request.kind === 'add' && fds.length !== 1)
        throw protocolError(`an AddWorkload carries one descriptor, not ${fds.length}`);
      if (request.kind !== 'add' && fds.length !== 0)
        throw protocolError(`a ${request.kind} message carries no descriptor, this one has ${fds.length}`);
    } catch (error) {
      for (const fd of fds) this.#deps.discard(fd);
      // Nothing after this can be trusted to line up: answer, then start over.
      this.#answer(reasonOf(error), () => this.#end(reasonOf(error)));
      return;
    }
    let problem = '';
    let fatal: MeshError | undefined;
    switch (request.kind) {
      case 'add':
        [problem, fatal] = this.#add(request.uid, request.info, fds[0]!);
        break;
      case 'del':
        this.#del(request.uid);
        break;
      case 'keep':
        if (this.#snapshot === undefined) fatal = protocolError('KeepWorkload after SnapshotSent');
        else this.#snapshot.add(request.uid);
        break;
      case 'snapshot-sent':
        fatal = this.#snapshotSent();
        break;
    }
    this.#updateReadiness();
    const error = fatal;
    if (error === undefined) this.#answer(problem);
    else this.#answer(error.message, () => this.#deps.onFatal(error));
  }

  #add(uid: string, info: PodInfo | undefined, fd: number): [string, MeshError?] {
    if (info === undefined) {
      this.#deps.discard(fd);
      const error = protocolError(`AddWorkload ${uid} without workload_info`);
      return [error.message, error];
    }
    this.#snapshot?.add(uid);
    this.#forget(uid);
    let netns: PodNetns;
    try {
      netns = this.#deps.netns(fd);
    } catch (error) {
      return [`pod ${info.namespace}/${info.name}: ${reasonOf(error)}`];
    }
    try {
      this.#deps.pods.add(uid, info, netns);
      return [''];
    } catch (error) {
      const problem = `pod ${info.namespace}/${info.name}: ${reasonOf(error)}`;
      this.#deps.log.warn('pod proxy not started; it will be tried again', { uid, error: problem });
      this.#waiting.set(uid, { info, netns });
      this.#armRetry();
      return [problem];
    }
  }

  #del(uid: string): void {
    this.#forget(uid);
    // Before the snapshot a running proxy of an earlier connection is reaped when the snapshot is complete.
    if (this.#snapshot === undefined) this.#deps.pods.remove(uid);
    else this.#snapshot.delete(uid);
  }

  #snapshotSent(): MeshError | undefined {
    if (this.#snapshot === undefined) return protocolError('a second SnapshotSent on one connection');
    const known = this.#snapshot;
    this.#snapshot = undefined;
    this.#deps.pods.retain(known);
    this.#deps.log.info('received the snapshot of the pods on this node', { pods: known.size });
    this.#deps.onSnapshot?.();
    return undefined;
  }

  #armRetry(): void {
    if (this.#retryArmed) return;
    this.#retryArmed = true;
    this.#scope.timeout(this.#retryMs, () => {
      this.#retryArmed = false;
      for (const [uid, { info, netns }] of [...this.#waiting]) {
        try {
          this.#deps.pods.add(uid, info, netns);
          this.#waiting.delete(uid);
        } catch (error) {
          this.#deps.log.warn('pod proxy still not started', { uid, error: reasonOf(error) });
        }
      }
      if (this.#waiting.size > 0) this.#armRetry();
      this.#updateReadiness();
    });
  }

  #forget(uid: string): void {
    this.#waiting.get(uid)?.netns.close();
    this.#waiting.delete(uid);
  }

  #updateReadiness(): void {
    this.#deps.onPending(this.#waiting.size);
    const isReady = this.#snapshot === undefined && this.#waiting.size === 0;
    if (isReady) this.#deps.readiness.complete(ZDS_READINESS_TASK);
    else this.#deps.readiness.block(ZDS_READINESS_TASK);
  }

  #answer(problem: string, then?: () => void): void {
    const send = (): Promise<void> =>
      this.#connection.send(encodeAck({ error: problem === '' ? undefined : problem }));
    const { settle } = this.#deps;
    (settle === undefined ? send() : settle().then(send)).then(then).catch((error) => {
      this.#end(`answering failed: ${reasonOf(error)}`);
      then?.();
    });
  }
}

function protocolError(message: string): MeshError {
  return new MeshError('ZDS_PROTOCOL', message);
}
