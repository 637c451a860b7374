// What the control plane publishes of one xDS type: encoded once, versioned by content, announced only on real change
// (control-plane.md §2.15).

import { hash } from 'node:crypto';
import type { ResourceKeys } from './address-keys.ts';

export interface PublishedResource {
  readonly name: string;
  /** A hash of the content: equal content has an equal version, also after a restart and on another replica. */
  readonly version: string;
  /** The value of the `google.protobuf.Any`. */
  readonly bytes: Uint8Array;
  readonly aliases: readonly string[];
  readonly follows: readonly string[];
}

const NO_KEYS: ResourceKeys = { aliases: [], follows: [] };

export type ChangeHandler = (names: ReadonlySet<string>) => void;

/** Changes are collected until `announce`, so that a batch of events is one announcement. */
export class ResourceSet {
  readonly typeUrl: string;
  readonly #resources = new Map<string, PublishedResource>();
  /** Alias or followed key → names. */
  readonly #byKey = new Map<string, Set<string>>();
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

  /** For subscribers on demand: what the key names, stands for, or brings along. */
  *resolve(key: string): Iterable<PublishedResource> {
    const own = this.#resources.get(key);
    if (own !== undefined) yield own;
    for (const name of this.#byKey.get(key) ?? []) {
      const resource = this.#resources.get(name)!;
      yield resource;
      // Who asks for a service by its address gets its workloads like one who asks by name.
      if (resource.aliases.includes(key))
        for (const follower of this.#byKey.get(name) ?? []) yield this.#resources.get(follower)!;
    }
  }

  onChange(handler: ChangeHandler): () => void {
    this.#handlers.add(handler);
    return () => {
      this.#handlers.delete(handler);
    };
  }

  /** Returns whether the content differs from what was published. */
  set(name: string, bytes: Uint8Array, keys: ResourceKeys = NO_KEYS): boolean {
    const version = contentVersion(bytes);
    const before = this.#resources.get(name);
    // Equal bytes have equal keys: these are read from the same value.
    if (before?.version === version) return false;
    if (before !== undefined) this.#unlink(before);
    const resource = { name, version, bytes, ...keys };
    this.#resources.set(name, resource);
    for (const key of keysOf(resource)) {
      const names = this.#byKey.get(key);
      if (names === undefined) this.#byKey.set(key, new Set([name]));
      else names.add(name);
    }
    this.#changed.add(name);
    return true;
  }

  delete(name: string): boolean {
    const before = this.#resources.get(name);
    if (before === undefined) return false;
    this.#resources.delete(name);
    this.#unlink(before);
    this.#changed.add(name);
    return true;
  }

  #unlink(resource: PublishedResource): void {
    for (const key of keysOf(resource)) {
      const names = this.#byKey.get(key);
      names?.delete(resource.name);
      if (names?.size === 0) this.#byKey.delete(key);
    }
  }

  announce(): void {
    if (this.#changed.size === 0) return;
    const names = this.#changed;
    this.#changed = new Set();
    for (const handler of this.#handlers) handler(names);
  }
}

function keysOf({ aliases, follows }: ResourceKeys): readonly string[] {
  return follows.length === 0 ? aliases : [...aliases, ...follows];
}

/** 64 bits in lower-case hexadecimal, the shape of Istio's versions; peers only compare them. */
function contentVersion(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'hex').slice(0, 16);
}
