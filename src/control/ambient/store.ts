// The objects of one kind by key, and their keys by namespace.

import type { KubeObject } from '#k8s/objects.ts';
import { GroupIndex } from './group-index.ts';

export class Store<T extends KubeObject> {
  readonly #objects = new Map<string, T>();
  readonly #byNamespace = new GroupIndex();

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  keys(): Iterable<string> {
    return this.#objects.keys();
  }

  /** Keys of one namespace; of all without one. */
  keysIn(namespace: string | undefined): Iterable<string> {
    return namespace === undefined ? this.#objects.keys() : this.#byNamespace.get(namespace);
  }

  /** `undefined` removes. Returns what was there before. */
  put(key: string, object: T | undefined): T | undefined {
    const before = this.#objects.get(key);
    if (object === undefined) {
      this.#objects.delete(key);
      if (before !== undefined) this.#byNamespace.remove(before.metadata.namespace ?? '', key);
    } else {
      this.#objects.set(key, object);
      this.#byNamespace.add(object.metadata.namespace ?? '', key);
    }
    return before;
  }
}
