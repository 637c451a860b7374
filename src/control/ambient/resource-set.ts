// What the control plane publishes of one xDS type: encoded once, versioned by content, announced only on real change
// (control-plane.md §2.15).

import { hash } from 'node:crypto';

export interface PublishedResource {
  readonly name: string;
  /** A hash of the content: equal content has an equal version, also after a restart and on another replica. */
  readonly version: string;
  /** The value of the `google.protobuf.Any`. */
  readonly bytes: Uint8Array;
}

export type ChangeHandler = (names: ReadonlySet<string>) => void;

/** Changes are collected until `announce`, so that a batch of events is one announcement. */
export class ResourceSet {
  readonly typeUrl: string;
  readonly #resources = new Map<string, PublishedResource>();
  readonly #handlers = new Set<ChangeHandler>();
  #changed = new Set<string>();

  constructor(typeUrl: string) {
    this.typeUrl = typeUrl;
  }

  get size(): number {
    return this.#resources.size;
  }

  list(): Iterable<PublishedResource> {
    return this.#resources.values();
  }

  get(name: string): PublishedResource | undefined {
    return this.#resources.get(name);
  }

  onChange(handler: ChangeHandler): () => void {
    this.#handlers.add(handler);
    return () => {
      this.#handlers.delete(handler);
    };
  }

  /** Returns whether the content differs from what was published. */
  set(name: string, bytes: Uint8Array): boolean {
    const version = contentVersion(bytes);
    if (this.#resources.get(name)?.version === version) return false;
    this.#resources.set(name, { name, version, bytes });
    this.#changed.add(name);
    return true;
  }

  delete(name: string): boolean {
    if (!this.#resources.delete(name)) return false;
    this.#changed.add(name);
    return true;
  }

  announce(): void {
    if (this.#changed.size === 0) return;
    const names = this.#changed;
    this.#changed = new Set();
    for (const handler of this.#handlers) handler(names);
  }
}

/** 64 bits in lower-case hexadecimal, the shape of Istio's versions; peers only compare them. */
function contentVersion(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'hex').slice(0, 16);
}
