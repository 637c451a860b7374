// Which namespaces the mesh sees: `discoverySelectors` of the mesh configuration (control-plane.md §1.2). What passes
// here is told to the indexes; when a namespace comes into view or leaves it, so do the objects in it.

import type { KubeObject, LabelSelector } from '#k8s/objects.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import { labelsOf } from './labels.ts';

export interface DiscoveryDeps<K extends string> {
  readonly upsert: (kind: K, object: KubeObject) => void;
  readonly remove: (kind: K, object: KubeObject) => void;
  /** Everything that there is in the namespace, seen or not. */
  readonly objectsIn: (namespace: string) => Iterable<readonly [kind: K, object: KubeObject]>;
  /** Namespaces that any object is in. */
  readonly namespacesInUse: () => Iterable<string>;
}

export interface DiscoveryOptions {
  /** In view whatever the selectors say: the mesh's own policies must not be lost by a label. */
  readonly always: readonly string[];
}

export class Discovery<K extends string> {
  readonly #deps: DiscoveryDeps<K>;
  readonly #options: DiscoveryOptions;
  readonly #namespaces = new Map<string, KubeObject>();
  #selectors: readonly LabelSelector[] = [];

  constructor(deps: DiscoveryDeps<K>, options: DiscoveryOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  upsert(kind: K, object: KubeObject): void {
    if (kind !== 'namespace') {
      if (this.sees(object.metadata.namespace)) this.#deps.upsert(kind, object);
      return;
    }
    const { name } = object.metadata;
    const before = this.sees(name);
    this.#namespaces.set(name, object);
    this.#deps.upsert(kind, object);
    this.#turned(name, before);
  }

  remove(kind: K, object: KubeObject): void {
    // Whether it was seen or not: to remove what is not there does nothing.
    this.#deps.remove(kind, object);
    if (kind !== 'namespace') return;
    const { name } = object.metadata;
    const before = this.sees(name);
    this.#namespaces.delete(name);
    this.#turned(name, before);
  }

  /** None: everything is seen. */
  setSelectors(selectors: readonly LabelSelector[]): void {
    const before = new Map([...this.#heldNamespaces()].map((name) => [name, this.sees(name)]));
    this.#selectors = selectors;
    for (const [name, seen] of before) this.#turned(name, seen);
  }

  /** Objects may be told of before their namespace is, so theirs are asked for, too. */
  #heldNamespaces(): Iterable<string> {
    return new Set([...this.#namespaces.keys(), ...this.#deps.namespacesInUse()]);
  }

  /** Cluster-scoped objects always are. */
  sees(namespace: string | undefined): boolean {
    if (namespace === undefined || namespace === '' || this.#selectors.length === 0) return true;
    if (this.#options.always.includes(namespace)) return true;
    const object = this.#namespaces.get(namespace);
    return (
      object !== undefined && this.#selectors.some((selector) => matchesSelector(selector, labelsOf(object)))
    );
  }

  #turned(namespace: string, before: boolean): void {
    const now = this.sees(namespace);
    if (now === before) return;
    const { objectsIn, upsert, remove } = this.#deps;
    for (const [kind, object] of objectsIn(namespace)) (now ? upsert : remove)(kind, object);
  }
}
