// What every controller is given, and the shared copies of the cluster's objects they all read.

import type { Clock, Random } from '#base/clock.ts';
import type { KubeClient } from '#k8s/client.ts';
import { type Informer, type InformerDeps, objectKey } from '#k8s/informer.ts';
import type { KubeObject, Resource } from '#k8s/objects.ts';
import { startInformer } from '#k8s/reflector.ts';
import type { Logger } from '#telemetry/log.ts';

export interface ControllerContext {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly informers: InformerSet;
  readonly clock: Clock;
  readonly random: Random;
}

/** One informer per kind, started when first asked for. Objects in them are shared: nobody may change them. */
export interface InformerSet {
  of<T extends KubeObject>(resource: Resource<T>): Informer<T>;
  /** Every informer asked for so far holds its first list. */
  synced(): Promise<void>;
  /** Ends the informer of a kind that is served no longer. */
  drop(resource: Resource): void;
  close(): void;
}

export function createInformerSet(deps: InformerDeps): InformerSet {
  const informers = new Map<string, Informer<KubeObject>>();
  const keyOf = (resource: Resource): string => `${resource.plural}.${resource.group}`;
  return {
    of<T extends KubeObject>(resource: Resource<T>): Informer<T> {
      let informer = informers.get(keyOf(resource));
      if (informer === undefined) {
        informer = startInformer<KubeObject>(deps, resource);
        informers.set(keyOf(resource), informer);
      }
      // The key names the kind, so the objects are of its type.
      return informer as unknown as Informer<T>;
    },
    async synced() {
      await Promise.all([...informers.values()].map((informer) => informer.synced));
    },
    drop(resource) {
      informers.get(keyOf(resource))?.close();
      informers.delete(keyOf(resource));
    },
    close() {
      for (const informer of informers.values()) informer.close();
      informers.clear();
    },
  };
}

/** How long a controller waits to see its own write; an informer that is reconnecting may take longer. */
const SETTLE_LIMIT_MS = 5_000;

/**
 * A controller decides from its copy. After it has made, changed or deleted something it must not decide again before the
 * copy shows that, or it would do things twice or take an old state for the present one: it waits here, up to a limit.
 */
export interface Settle<T> {
  /** The copy holds the object in this state or a later one, or it is gone again. */
  updated(written: T): Promise<void>;
  /** The copy shows something of this object that no answer held, or the object is gone again. */
  shown(object: T, isShown: (held: T) => boolean): Promise<void>;
  /** The copy holds the object that was just made. */
  created(made: T): Promise<void>;
  /** The copy shows the end, or its beginning, of this object. */
  deleted(object: T): Promise<void>;
}

export function settleOn<T extends KubeObject>(informer: Informer<T>): Settle<T> {
  const waiting = new Set<() => void>();
  const check = (): void => {
    for (const look of waiting) look();
  };
  informer.addHandlers({ upsert: check, remove: check });
  const until = (seen: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        waiting.delete(look);
        resolve();
      };
      const look = (): void => {
        if (seen()) finish();
      };
      const timer = setTimeout(finish, SETTLE_LIMIT_MS).unref();
      waiting.add(look);
      look();
    });
  const sameLife = (object: T): T | undefined => {
    const held = informer.get(objectKey(object));
    return held?.metadata.uid === object.metadata.uid ? held : undefined;
  };
  return {
    updated: (written) =>
      until(() => {
        const held = sameLife(written);
        return (
          held === undefined || isAtLeast(held.metadata.resourceVersion, written.metadata.resourceVersion)
        );
      }),
    shown: (object, isShown) =>
      until(() => {
        const held = sameLife(object);
        return held === undefined || isShown(held);
      }),
    created: (made) => until(() => sameLife(made) !== undefined),
    deleted: (object) =>
      until(
        () => sameLife(object)?.metadata.deletionTimestamp !== undefined || sameLife(object) === undefined,
      ),
  };
}

/** Versions are numbers that grow. */
function isAtLeast(held: string | undefined, wanted: string | undefined): boolean {
  if (held === wanted) return true;
  return /^\d+$/.test(held ?? '') && /^\d+$/.test(wanted ?? '') && BigInt(held ?? '') > BigInt(wanted ?? '');
}
