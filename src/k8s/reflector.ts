// Informers: a local copy of one kind, kept current for ever by WatchList (or list and watch), resume, and relist.
// What a change means is the handlers' business; this file only guarantees that they see every object's latest state.

import { Backoff } from '#base/backoff.ts';
import { sleep } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import {
  type InformerDeps,
  type InformerHandlers,
  type InformerOptions,
  objectKey,
  type StartInformer,
} from './informer.ts';
import type { KubeObject, Resource } from './objects.ts';
import { apiStatusOf, needsRelist } from './status.ts';

const RETRY = { initialMs: 200, maxMs: 30_000, jitter: 0.3 } as const;

export const startInformer: StartInformer = (deps, resource, options = {}) => {
  const copy = new LocalCopy(deps, resource);
  const aborter = new AbortController();
  void follow(deps, resource, options, copy, aborter.signal).catch((error: unknown) => {
    // follow() handles every failure of the API server; what arrives here is a defect.
    deps.log.error(`the informer of ${resource.plural} stopped`, { error: reasonOf(error) });
  });
  return {
    get: (key) => copy.objects.get(key),
    all: () => copy.objects.values(),
    synced: copy.synced,
    get hasSynced() {
      return copy.hasSynced;
    },
    addHandlers: (handlers) => copy.addHandlers(handlers),
    close: () => {
      copy.close();
      aborter.abort();
    },
  };
};

/** The objects, and who is told about them. Every change passes through `put` and `drop`. */
class LocalCopy<T extends KubeObject> {
  readonly objects = new Map<string, T>();
  readonly synced: Promise<void>;
  hasSynced = false;
  readonly #deps: InformerDeps;
  readonly #plural: string;
  readonly #handlers: InformerHandlers<T>[] = [];
  #resolveSynced: () => void = () => {};
  #closed = false;

  constructor(deps: InformerDeps, resource: Resource<T>) {
    this.#deps = deps;
    this.#plural = resource.plural;
    this.synced = new Promise((resolve) => {
      this.#resolveSynced = resolve;
    });
  }

  addHandlers(handlers: InformerHandlers<T>): void {
    this.#handlers.push(handlers);
    for (const object of [...this.objects.values()])
      this.#guard(() => handlers.upsert(object, undefined), object);
  }

  put(object: T): void {
    const key = objectKey(object);
    let old = this.objects.get(key);
    if (old !== undefined) {
      if (old.metadata.resourceVersion === object.metadata.resourceVersion) return;
      // Deleted and made again while nobody watched: two lives, so two notifications.
      if (old.metadata.uid !== object.metadata.uid) {
        this.drop(old);
        old = undefined;
      }
    }
    this.objects.set(key, object);
    for (const handlers of this.#handlers) this.#guard(() => handlers.upsert(object, old), object);
  }

  /** `object` is the last state known, which the handlers are given. */
  drop(object: T): void {
    if (!this.objects.delete(objectKey(object))) return;
    for (const handlers of this.#handlers) this.#guard(() => handlers.remove(object), object);
  }

  /** A complete list: what is not in it is gone. */
  replace(list: ReadonlyMap<string, T>): void {
    for (const [key, object] of [...this.objects]) if (!list.has(key)) this.drop(object);
    for (const object of list.values()) this.put(object);
    this.hasSynced = true;
    this.#resolveSynced();
  }

  /** Nobody is told anything any more. */
  close(): void {
    this.#closed = true;
  }

  #guard(notify: () => void, object: T): void {
    if (this.#closed) return;
    try {
      notify();
    } catch (error) {
      this.#deps.log.error(`a handler of ${this.#plural} failed`, {
        object: objectKey(object),
        error: reasonOf(error),
      });
    }
  }
}

/** Who owns which field can be half of an object, and no handler asks. Updates without it leave it as it is. */
function forgetOwners({ metadata }: KubeObject): void {
  delete (metadata as KubeObject['metadata'] & { managedFields?: unknown }).managedFields;
}

async function follow<T extends KubeObject>(
  deps: InformerDeps,
  resource: Resource<T>,
  { keep = (object: T) => object, ...options }: InformerOptions<T>,
  copy: LocalCopy<T>,
  signal: AbortSignal,
): Promise<void> {
  const { client, log } = deps;
  const backoff = new Backoff(RETRY);
  /** Undefined: the next round starts from a complete list. */
  let version: string | undefined;
  let watchListServed = true;
  let reported = '';

  const watchFrom = async (from: string | undefined): Promise<void> => {
    // While the initial events of a WatchList come in, they are collected: handlers see a list only when it is whole.
    let initial: Map<string, T> | undefined = from === undefined ? new Map() : undefined;
    const events = client.watch(resource, {
      ...options,
      signal,
      ...(from === undefined ? { sendInitialEvents: true } : { resourceVersion: from }),
    });
    for await (const event of events) {
      if (signal.aborted) return;
      if (event.type === 'BOOKMARK') {
        if (initial !== undefined) {
          // A server that knows nothing of the demand never says that the list is whole.
          if (!event.initialEventsEnd) return fallBack();
          copy.replace(initial);
          initial = undefined;
        }
        if (event.resourceVersion !== '') version = event.resourceVersion;
      } else {
        const { type } = event;
        const object = kept(event.object);
        if (initial === undefined) {
          if (type === 'DELETED') copy.drop(object);
          else copy.put(object);
          version = object.metadata.resourceVersion ?? version;
        } else if (type === 'DELETED') initial.delete(objectKey(object));
        else initial.set(objectKey(object), object);
      }
      if (initial === undefined) {
        backoff.reset();
        reported = '';
      }
    }
    if (initial !== undefined && !signal.aborted) fallBack();
  };

  const fallBack = (): void => {
    log.debug(`the API server serves no WatchList of ${resource.plural}; listing instead`);
    watchListServed = false;
  };

  const kept = (object: T): T => {
    forgetOwners(object);
    return keep(object);
  };

  const list = async (): Promise<void> => {
    const { items, resourceVersion } = await client.list(resource, options);
    if (signal.aborted) return;
    copy.replace(new Map(items.map((object) => [objectKey(object), kept(object)])));
    version = resourceVersion;
  };

  while (!signal.aborted) {
    const startedAt = performance.now();
    try {
      if (version === undefined && !watchListServed) await list();
      await watchFrom(version);
      // A stream that ended by itself is resumed at once, unless the server ends them as soon as they begin.
      if (performance.now() - startedAt < 1000) await sleep(backoff.next(), signal);
    } catch (error) {
      if (signal.aborted) return;
      const { status, retryAfterMs = 0 } = apiStatusOf(error) ?? {};
      if (version === undefined && watchListServed && (status === 400 || status === 422)) {
        fallBack();
        continue;
      }
      if (needsRelist(error)) {
        log.debug(`the watch of ${resource.plural} fell behind; listing again`);
        version = undefined;
      } else if (reasonOf(error) !== reported) {
        // Once per reason: a server that is away for minutes does not fill the log.
        reported = reasonOf(error);
        log.warn(`cannot follow ${resource.plural}; trying again`, { error: reported });
      }
      await sleep(Math.max(backoff.next(), retryAfterMs), signal);
    }
  }
}
