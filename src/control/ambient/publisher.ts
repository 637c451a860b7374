// Publishes what sources of resources stand for, and withdraws what they no longer do: one source may stand for several.

import { type Address, addressName } from '#model/address.ts';
import { encodeAddress } from '#proto/workload.ts';
import { addressKeys } from './address-keys.ts';
import type { ResourceSet } from './resource-set.ts';

export class Publisher {
  readonly #addresses: ResourceSet;
  readonly #publishedBy = new Map<string, readonly string[]>();

  constructor(addresses: ResourceSet) {
    this.#addresses = addresses;
  }

  /** Everything that the source stands for now; of two resources of one name the first. */
  publish(source: string, resources: readonly Address[]): void {
    const names: string[] = [];
    for (const address of resources) {
      const name = addressName(address);
      if (names.includes(name)) continue;
      names.push(name);
      this.#addresses.set(name, encodeAddress(address), addressKeys(address));
    }
    for (const name of this.#publishedBy.get(source) ?? [])
      if (!names.includes(name)) this.#addresses.delete(name);
    if (names.length === 0) this.#publishedBy.delete(source);
    else this.#publishedBy.set(source, names);
  }

  /** The names of what the source stands for. */
  publishedBy(source: string): readonly string[] {
    return this.#publishedBy.get(source) ?? [];
  }

  announce(): void {
    this.#addresses.announce();
  }
}
