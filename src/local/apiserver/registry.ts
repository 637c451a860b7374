// Which kinds are served now: the built-in table and whatever the stored CustomResourceDefinitions add.

import { kindsOfCrd } from './crd.ts';
import { isEstablished } from './crd-names.ts';
import type { Kind } from './kind.ts';
import { BUILT_IN_KINDS } from './kinds.ts';
import { resourceKey, type Store } from './store.ts';

export const CRDS = resourceKey('apiextensions.k8s.io', 'customresourcedefinitions');

export class Registry {
  #kinds: readonly Kind[] = BUILT_IN_KINDS;
  #byPath = new Map<string, Kind>();
  #revision = 0;
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
    this.#rebuild();
    store.subscribe(CRDS, () => this.#rebuild());
  }

  get kinds(): readonly Kind[] {
    return this.#kinds;
  }

  /** Grows with every change; caches of discovery and OpenAPI hang on it. */
  get revision(): number {
    return this.#revision;
  }

  find(group: string, version: string, plural: string): Kind | undefined {
    return this.#byPath.get(`${group}/${version}/${plural}`);
  }

  hasGroupVersion(group: string, version: string): boolean {
    return this.#kinds.some((kind) => kind.group === group && kind.version === version);
  }

  #rebuild(): void {
    const custom = this.#store
      .list(CRDS)
      .flatMap(({ object }) => (isEstablished(object) ? kindsOfCrd(object) : []));
    const taken = new Set(BUILT_IN_KINDS.map((kind) => kind.resource));
    this.#kinds = [...BUILT_IN_KINDS, ...custom.filter((kind) => !taken.has(kind.resource))];
    this.#byPath = new Map(this.#kinds.map((kind) => [`${kind.group}/${kind.version}/${kind.plural}`, kind]));
    this.#revision++;
  }
}
