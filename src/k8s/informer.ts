// A local, always current copy of one kind of object: list, watch, resume, relist, for ever.

import type { Logger } from '#telemetry/log.ts';
import type { KubeClient, ListOptions } from './client.ts';
import type { KubeObject, Resource } from './objects.ts';

export interface InformerHandlers<T> {
  /** Called for every object after the first list and for every change; `old` is undefined for a new object. */
  upsert(object: T, old: T | undefined): void;
  remove(object: T): void;
}

export interface Informer<T> {
  /** By `namespace/name`, or `name` for cluster-scoped kinds. */
  get(key: string): T | undefined;
  all(): IterableIterator<T>;
  /** Resolves when the first list has been delivered to every handler. */
  readonly synced: Promise<void>;
  readonly hasSynced: boolean;
  /** Handlers added later are first given everything that is held. */
  addHandlers(handlers: InformerHandlers<T>): void;
  close(): void;
}

export interface InformerOptions<T> extends ListOptions {
  /** What of an object is held; runs as it arrives. The rest of it takes no memory. */
  readonly keep?: (object: T) => T;
}

export interface InformerDeps {
  readonly client: KubeClient;
  readonly log: Logger;
}

export type StartInformer = <T extends KubeObject>(
  deps: InformerDeps,
  resource: Resource<T>,
  options?: InformerOptions<T>,
) => Informer<T>;

/** `namespace/name`, or `name` where there is no namespace. */
export function objectKey(object: KubeObject): string {
  const { namespace, name } = object.metadata;
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`;
}
