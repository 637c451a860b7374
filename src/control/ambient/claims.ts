// Who claims which host name: services by the object that states them, and by host name (control-plane.md §2.13,
// deduplication).

import { ownersOf, type ServiceRecord } from './service-record.ts';
import type { Owner } from './world.ts';

export class Claims {
  readonly #bySource = new Map<string, readonly ServiceRecord[]>();
  readonly #byHostname = new Map<string, Map<string, ServiceRecord>>();
  readonly #owners = new Map<string, ReadonlyMap<string, Owner>>();
  /** Host names whose claims have changed since `settle`. */
  readonly #open = new Set<string>();

  /** All that the source states now; empty when it is gone. */
  set(source: string, records: readonly ServiceRecord[]): void {
    for (const { service } of this.#bySource.get(source) ?? []) {
      const claims = this.#byHostname.get(service.hostname);
      claims?.delete(source);
      if (claims?.size === 0) this.#byHostname.delete(service.hostname);
      this.#open.add(service.hostname);
    }
    for (const record of records) {
      const { hostname } = record.service;
      const claims = this.#byHostname.get(hostname);
      if (claims === undefined) this.#byHostname.set(hostname, new Map([[source, record]]));
      else claims.set(source, record);
      this.#open.add(hostname);
    }
    if (records.length === 0) this.#bySource.delete(source);
    else this.#bySource.set(source, records);
  }

  recordsOf(source: string): readonly ServiceRecord[] {
    return this.#bySource.get(source) ?? [];
  }

  /** Every host name with the sources that claim it, and the keys of the services that came of it. */
  *hostnames(): Iterable<{
    readonly hostname: string;
    readonly sources: readonly string[];
    readonly owners: readonly string[];
  }> {
    for (const [hostname, claims] of this.#byHostname) {
      const owners = [...(this.#owners.get(hostname)?.keys() ?? [])];
      yield { hostname, sources: [...claims.keys()], owners };
    }
  }

  /** Decides the open host names; tells of each service what it was and what it is. */
  settle(changed: (key: string, before: Owner | undefined, now: Owner | undefined) => void): void {
    for (const hostname of this.#open) {
      const before = this.#owners.get(hostname) ?? new Map<string, Owner>();
      const now: ReadonlyMap<string, Owner> = ownersOf(this.#byHostname.get(hostname)?.values() ?? []);
      if (now.size === 0) this.#owners.delete(hostname);
      else this.#owners.set(hostname, now);
      for (const key of before.keys()) if (!now.has(key)) changed(key, before.get(key), undefined);
      for (const [key, owner] of now) changed(key, before.get(key), owner);
    }
    this.#open.clear();
  }
}
