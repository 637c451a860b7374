// Container logs: written as CRI lines below the run directory with rotation, read back for `kubectl logs`, followed by
// in-process notification.

import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import type { ContainerStatus, Pod } from '#k8s/objects.ts';
import { parseCriLine } from './cri-line.ts';
import { LOG_LIMIT_BYTES, LOG_LIMIT_LINES } from './termination-message.ts';

export interface LogOptions {
  readonly follow?: boolean;
  readonly tailLines?: number;
  readonly previous?: boolean;
  readonly timestamps?: boolean;
  readonly sinceSeconds?: number;
  readonly sinceTime?: string;
  readonly limitBytes?: number;
  /** Aborts when the reader goes away. */
  readonly signal?: AbortSignal;
}

const ROTATE_BYTES = 10 * 1024 * 1024;

export interface ContainerLog {
  write(lines: string): void;
  /** No more lines will come; followers end. */
  end(): void;
}

type Follower = { readonly onLines: (lines: string) => void; readonly onEnd: () => void };

/** All logs of the machine; one per LOCAL, shared by the kubelets. Has the shape of the API server's `PodLogs`. */
export class LogStore {
  readonly #dir: string;
  /** By path of the current log file. */
  readonly #open = new Map<string, Set<Follower>>();

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** The log of one run of a container; appends when the file exists (LOCAL was started again). */
  writer(pod: Pod, container: string, attempt: number): ContainerLog {
    const path = this.#path(pod, container, attempt);
    mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 });
    const followers = new Set<Follower>();
    this.#open.set(path, followers);
    let fd = openSync(path, 'a', 0o600);
    let bytes = fstatSync(fd).size;
    return {
      write: (lines) => {
        if (lines === '') return;
        if (bytes > ROTATE_BYTES) {
          closeSync(fd);
          renameSync(path, `${path}.1`);
          fd = openSync(path, 'a', 0o600);
          bytes = 0;
        }
        // Synchronous, so that what a follower reads from the file and what it is told meet without gap or overlap.
        try {
          bytes += writeSync(fd, lines);
        } catch {
          // A full disk must not end LOCAL: the line is lost for the file, followers still get it.
        }
        for (const follower of followers) follower.onLines(lines);
      },
      end: () => {
        closeSync(fd);
        this.#open.delete(path);
        for (const follower of followers) follower.onEnd();
        followers.clear();
      },
    };
  }

  /** The last words of a run that is over. */
  end(pod: Pod, container: string, attempt: number): string {
    const lines = lastLines(readAll(this.#path(pod, container, attempt)), '', LOG_LIMIT_LINES);
    const bytes = Buffer.from(plainTextOf(false)(lines));
    return bytes.subarray(Math.max(0, bytes.length - LOG_LIMIT_BYTES)).toString();
  }

  /** The pod is gone, and what it said with it. */
  remove(pod: Pod): void {
    rmSync(this.#podDir(pod), { recursive: true, force: true });
  }

  /** Forgets the logs of pods that went while nobody watched. */
  prune(existingUids: ReadonlySet<string>): void {
    if (!existsSync(this.#dir)) return;
    for (const name of readdirSync(this.#dir)) {
      const uid = name.split('_').at(-1) ?? '';
      if (!existingUids.has(uid)) rmSync(join(this.#dir, name), { recursive: true, force: true });
    }
  }

  open(pod: Pod, container: string, options: LogOptions): AsyncIterable<Uint8Array> {
    const attempt = this.#attemptFor(pod, container, options.previous === true);
    const path = this.#path(pod, container, attempt);
    if (attempt < 0)
      throw badRequest(
        `previous terminated container "${container}" in pod "${pod.metadata.name}" not found`,
      );
    if (!existsSync(path))
      throw badRequest(
        `container "${container}" in pod "${pod.metadata.name}" is waiting to start: ${whyWaiting(statusOf(pod, container))}`,
      );
    return this.#read(path, options);
  }

  /** Which run is meant; negative when there is none. */
  #attemptFor(pod: Pod, container: string, previous: boolean): number {
    const status = statusOf(pod, container);
    const latest = this.#latestAttempt(pod, container, status?.restartCount ?? 0);
    if (!previous) return latest;
    // Between two runs the one that ended last is the one before, and the latest as well.
    const isBetweenRuns = status?.state?.waiting !== undefined && status.lastState?.terminated !== undefined;
    return isBetweenRuns ? (status?.restartCount ?? 0) : latest - 1;
  }

  /** The published restart count may lag behind the run that writes now, and may run ahead of its first line. */
  #latestAttempt(pod: Pod, container: string, published: number): number {
    for (let attempt = published + 1; attempt > 0; attempt--) {
      if (existsSync(this.#path(pod, container, attempt))) return attempt;
    }
    return 0;
  }

  #path(pod: Pod, container: string, attempt: number): string {
    return join(this.#podDir(pod), container, `${attempt}.log`);
  }

  #podDir(pod: Pod): string {
    const { namespace = 'default', name, uid = '' } = pod.metadata;
    return join(this.#dir, `${namespace}_${name}_${uid}`);
  }

  async *#read(path: string, options: LogOptions): AsyncGenerator<Uint8Array> {
    // Following begins before the file is read, in one turn of the event loop: no line is lost or told twice.
    const queue: string[] = [];
    let ended = false;
    let wake: () => void = () => {};
    const followers = options.follow === true ? this.#open.get(path) : undefined;
    const follower: Follower = {
      onLines: (lines) => {
        queue.push(lines);
        wake();
      },
      onEnd: () => {
        ended = true;
        wake();
      },
    };
    if (options.signal?.aborted === true) return;
    options.signal?.addEventListener('abort', follower.onEnd, { once: true });
    let budget = options.limitBytes ?? Number.POSITIVE_INFINITY;
    const take = (text: string): Uint8Array => {
      const bytes = Buffer.from(text);
      const part = bytes.length > budget ? bytes.subarray(0, budget) : bytes;
      budget -= part.length;
      return part;
    };
    try {
      const past = readAll(path);
      followers?.add(follower);
      const since = sinceOf(options);
      const plain = plainTextOf(options.timestamps === true);
      const start = plain(lastLines(past, since, options.tailLines));
      if (start !== '') yield take(start);
      while (followers !== undefined && budget > 0) {
        const lines = queue.shift();
        if (lines !== undefined) yield take(plain(lines));
        else if (ended) return;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      options.signal?.removeEventListener('abort', follower.onEnd);
      followers?.delete(follower);
    }
  }
}

function sinceOf({ sinceSeconds, sinceTime }: LogOptions): string {
  if (sinceSeconds !== undefined) return new Date(Date.now() - sinceSeconds * 1000).toISOString();
  return sinceTime === undefined ? '' : new Date(sinceTime).toISOString();
}

function readAll(path: string): string {
  const text = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  return text(`${path}.1`) + text(path);
}

/** The last `count` full lines not older than `since` (ISO times compare as text). */
export function lastLines(text: string, since: string, count: number | undefined): string {
  let lines = text.split('\n').filter((line) => line !== '');
  if (since !== '') lines = lines.filter((line) => line.slice(0, since.length) >= since);
  if (count !== undefined) {
    let from = lines.length;
    for (let seen = 0; from > 0 && seen < count; ) {
      from--;
      // A line starts where the one before it was complete.
      if (from === 0 || parseCriLine(lines[from - 1]!)?.full !== false) seen++;
    }
    lines = lines.slice(from);
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

/**
 * What the container wrote, with the time before every line when asked. A long line comes in parts, which may come in
 * several calls: it has one time.
 */
export function plainTextOf(timestamps: boolean): (criLines: string) => string {
  let midLine = false;
  return (criLines) => {
    let out = '';
    for (const raw of criLines.split('\n')) {
      if (raw === '') continue;
      const line = parseCriLine(raw);
      if (line === undefined) continue;
      if (timestamps && !midLine) out += `${line.time} `;
      out += line.text;
      if (line.full) out += '\n';
      midLine = !line.full;
    }
    return out;
  };
}

const statusOf = ({ status }: Pod, container: string): ContainerStatus | undefined =>
  [...(status?.containerStatuses ?? []), ...(status?.initContainerStatuses ?? [])].find(
    ({ name }) => name === container,
  );

/** In the words of a kubelet. */
function whyWaiting(status: ContainerStatus | undefined): string {
  const reason = status?.state?.waiting?.reason ?? 'PodPending';
  if (reason === 'ErrImagePull') return "image can't be pulled";
  if (reason === 'ImagePullBackOff') return 'trying and failing to pull image';
  return reason;
}

const badRequest = (message: string): MeshError =>
  new MeshError('API_STATUS', message, { details: { status: 400, reason: 'BadRequest' } });
