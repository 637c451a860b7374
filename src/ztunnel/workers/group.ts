// The owner's side of the other threads: starts them, tells them what it learns, adds up what they count. One that ends
// unasked, or hangs, takes the process with it: half a ztunnel would refuse half of the connections, and nobody would see why.

import { Worker } from 'node:worker_threads';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { StoreUpdate } from '#model/store.ts';
import type { LogFilter } from '#telemetry/log-filter.ts';
import type { MetricsSnapshot } from '#telemetry/metrics.ts';
import type { SecretMaterial } from '#tls/workload-certificate.ts';
import type { DemandOutcome } from '#xds/demands.ts';
import type { CaptureShare } from '../capture/capture.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { PodConnections } from '../connections.ts';
import type { DrainResult } from '../drain.ts';
import type { OtherThreads, PodInfo } from '../pods.ts';
import { Exchange } from './exchange.ts';
import { written } from './lines.ts';
import type { AskedOfOwner, AskedOfWorker, ToldToOwner, ToldToWorker, WorkerStart } from './messages.ts';
import { silentWithin, type Watched, watchThreads } from './watch.ts';

/** What the owner answers to a thread's question. */
export interface OwnerAnswers {
  /** Resolves when the certificate has been told. */
  readonly secret: (identity: SpiffeId) => Promise<unknown>;
  readonly demand: (name: string) => Promise<DemandOutcome>;
}

export interface Workers extends OtherThreads {
  /** Shared with the threads: the sum of what nobody has read. */
  readonly unread: Int32Array<SharedArrayBuffer>;
  /** `encoded`: the response of the control plane that it came from. */
  apply(update: StoreUpdate, encoded: Uint8Array | undefined): void;
  secret(identity: SpiffeId, material: SecretMaterial | undefined): void;
  /** Resolves with the number of sessions cut. */
  revocations(bytes: Uint8Array): Promise<number>;
  logFilter(filter: LogFilter): void;
  /** Resolves when every thread has done what it was told so far. */
  settle(): Promise<void>;
  /** Names of threads that have not done it within the limit. */
  silent(limitMs: number): Promise<readonly string[]>;
  metrics(): Promise<MetricsSnapshot[]>;
  connections(): Promise<ReadonlyMap<string, PodConnections>[]>;
  resources(): Promise<(readonly string[])[]>;
  drain(): Promise<DrainResult[]>;
  close(): void;
}

export interface WorkersDeps {
  /** The program of a thread. */
  readonly entry: URL;
  /** Whole lines of theirs. */
  readonly write: (text: string) => void;
  /** A thread has ended unasked. */
  readonly onCrash: (error: MeshError) => void;
  /** A thread has answered nothing for so long that it will not: the process must end, without waiting for it. */
  readonly onHung: (error: MeshError) => void;
}

export type StartWorkers = (config: ZtunnelConfig, answers: OwnerAnswers) => Promise<Workers>;

type Thread = Exchange<ToldToWorker, AskedOfWorker, ToldToOwner, AskedOfOwner>;

const nameOf = (index: number): string => `ztunnel-${index + 1}`;

/** Resolves when every thread is ready to be told. Rejects with MeshError WORKER_FAILED. */
export function workersOf(deps: WorkersDeps): StartWorkers {
  return async (config, answers) => {
    const unread = new Int32Array(new SharedArrayBuffer(4));
    const group = { isClosing: false };
    const threads = await Promise.all(
      Array.from({ length: config.threads - 1 }, (_, index) =>
        startThread(deps, group, nameOf(index), answers, {
          config,
          logFilter: config.logFilter,
          unread: unread.buffer,
          unwritten: new SharedArrayBuffer(4),
        }),
      ),
    );
    const watched = threads.map((thread, index) => ({
      name: nameOf(index),
      answer: () => thread.ask('settle', null),
    }));
    const stopWatch = watchThreads(watched, (name, silentMs) => {
      const silence = `thread ${name} has not answered for ${silentMs / 1000} s`;
      deps.onHung(new MeshError('WORKER_FAILED', silence));
    });
    return workers(threads, watched, unread, () => {
      group.isClosing = true;
      stopWatch();
    });
  };
}

function startThread(
  { entry, write, onCrash }: WorkersDeps,
  group: { readonly isClosing: boolean },
  name: string,
  answers: OwnerAnswers,
  start: WorkerStart,
): Promise<Thread> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(entry, { name, workerData: start });
    const unwritten = new Int32Array(start.unwritten);
    let isUp = false;
    let isOver = false;
    const ended = (why: string, cause?: unknown): void => {
      if (isOver || group.isClosing) return;
      isOver = true;
      const error = new MeshError('WORKER_FAILED', `thread ${name} has ended: ${why}`, { cause });
      thread.fail(error);
      if (isUp) onCrash(error);
      else reject(error);
    };
    worker.on('error', (error) => ended(reasonOf(error), error));
    worker.on('messageerror', (error) => ended(reasonOf(error), error));
    worker.on('exit', (code) => ended(`status ${code}`));
    const thread = new Exchange<ToldToWorker, AskedOfWorker, ToldToOwner, AskedOfOwner>(worker, {
      told: {
        up: () => {
          isUp = true;
          resolve(thread);
        },
        lines: (text) => {
          write(text);
          written(unwritten, text);
        },
      },
      asked: {
        secret: async (identity) => {
          await answers.secret(identity);
          return null;
        },
        demand: (name) => answers.demand(name),
      },
    });
  });
}

function workers(
  threads: readonly Thread[],
  watched: readonly Watched[],
  unread: Int32Array<SharedArrayBuffer>,
  onClose: () => void,
): Workers {
  const each = <T>(ask: (thread: Thread) => Promise<T>): Promise<T[]> => Promise.all(threads.map(ask));
  const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);
  return {
    count: threads.length,
    unread,
    apply: (update, encoded) => {
      for (const thread of threads) {
        if (encoded === undefined) thread.tell('state', update);
        else tellBytes(thread, encoded);
      }
    },
    secret: (identity, material) => {
      for (const thread of threads) thread.tell('secret', { identity, material });
    },
    revocations: async (bytes) => sum(await each((thread) => thread.ask('revocations', bytes))),
    logFilter: (filter) => {
      for (const thread of threads) thread.tell('logFilter', filter);
    },
    addPod: (uid: string, info: PodInfo, shares: readonly CaptureShare[]) => {
      for (const [index, thread] of threads.entries())
        thread.tell('pod', { uid, info, share: shares[index]! });
    },
    removePod: async (uid) => sum(await each((thread) => thread.ask('removePod', uid))),
    settle: async () => {
      await each((thread) => thread.ask('settle', null));
    },
    silent: (limitMs) => silentWithin(watched, limitMs),
    metrics: () => each((thread) => thread.ask('metrics', null)),
    connections: () => each((thread) => thread.ask('connections', null)),
    resources: () => each((thread) => thread.ask('resources', null)),
    drain: () => each((thread) => thread.ask('drain', null)),
    close: () => {
      onClose();
      for (const thread of threads) thread.tell('close', null);
    },
  };
}

/** A copy of its own for each, given and not copied once more: the buffer it stands in may be larger, and another's. */
function tellBytes(thread: Thread, bytes: Uint8Array): void {
  const copy = new Uint8Array(bytes);
  thread.tell('delta', copy, [copy.buffer]);
}
