// An informer for tests, whose objects the test puts in by hand.

import { type Informer, type InformerHandlers, objectKey } from '#k8s/informer.ts';
import type { KubeObject } from '#k8s/objects.ts';

export class Hand<T extends KubeObject> {
  readonly objects = new Map<string, T>();
  readonly handlers: InformerHandlers<T>[] = [];
  closed = false;
  hasSynced = false;
  sync = (): void => {};
  readonly informer: Informer<T>;

  constructor() {
    const { objects, handlers } = this;
    const hasSynced = (): boolean => this.hasSynced;
    this.informer = {
      get: (key) => objects.get(key),
      all: () => objects.values(),
      synced: new Promise((resolve) => {
        this.sync = () => {
          this.hasSynced = true;
          resolve();
        };
      }),
      get hasSynced() {
        return hasSynced();
      },
      addHandlers: (handler) => {
        handlers.push(handler);
        for (const object of objects.values()) handler.upsert(object, undefined);
      },
      close: () => {
        this.closed = true;
      },
    };
  }

  put(object: T): void {
    const key = objectKey(object);
    const old = this.objects.get(key);
    this.objects.set(key, object);
    for (const handler of this.handlers) handler.upsert(object, old);
  }

  drop(object: T): void {
    this.objects.delete(objectKey(object));
    for (const handler of this.handlers) handler.remove(object);
  }
}
