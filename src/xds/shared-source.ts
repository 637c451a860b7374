// What several clients are sent alike is looked up and encoded once: each resource, each push to wildcard subscribers, and
// the whole state for those who begin with nothing. The bytes are shared until the last client has taken them.

import { encodeRemoved, encodeResourceField } from '#proto/discovery-parts.ts';
import type { ResourceSource, XdsResource } from './source.ts';

/** What a response carries. */
export interface Delta {
  readonly resources: readonly XdsResource[];
  readonly removed: readonly string[];
  /** Other names of the resources are sent along, for subscribers on demand. */
  readonly aliases: boolean;
}

const NO_ALIASES: readonly string[] = [];

export class SharedSource {
  readonly source: ResourceSource;
  /** Grows with every change at the source, announced or not yet pushed. */
  #revision = 0;
  #everything: { readonly revision: number; readonly delta: WeakRef<Delta> } | undefined;
  /** By the very set of names that was pushed. */
  readonly #pushes = new WeakMap<ReadonlySet<string>, { readonly revision: number; readonly delta: Delta }>();
  readonly #bodies = new WeakMap<Delta, Uint8Array>();
  readonly #fields = new WeakMap<XdsResource, Uint8Array>();
  readonly #fieldsWithAliases = new WeakMap<XdsResource, Uint8Array>();
  readonly #stop: () => void;

  constructor(source: ResourceSource) {
    this.source = source;
    this.#stop = source.onChange(() => {
      this.#revision++;
    });
  }

  close(): void {
    this.#stop();
  }

  /** All there is. */
  everything(): Delta {
    const known = this.#everything?.revision === this.#revision ? this.#everything.delta.deref() : undefined;
    if (known !== undefined) return known;
    const delta = this.delta(this.source.list(), [], false);
    this.#everything = { revision: this.#revision, delta: new WeakRef(delta) };
    return delta;
  }

  /** What has become of these names; the set may not change afterwards. */
  changes(names: ReadonlySet<string>): Delta {
    const known = this.#pushes.get(names);
    if (known?.revision === this.#revision) return known.delta;
    const resources: XdsResource[] = [];
    const removed: string[] = [];
    for (const name of names) {
      const resource = this.source.get(name);
      if (resource === undefined) removed.push(name);
      else resources.push(resource);
    }
    const delta = this.delta(resources, removed, false);
    this.#pushes.set(names, { revision: this.#revision, delta });
    return delta;
  }

  /** Without what the type does not carry. */
  delta(resources: Iterable<XdsResource>, removed: Iterable<string>, aliases: boolean): Delta {
    const { source } = this;
    const carried = [...resources].filter(
      (it) => source.carry === undefined || source.carry(it) !== undefined,
    );
    return { resources: carried, removed: [...removed], aliases };
  }

  /** The fields of a response that depend on nothing but the delta. */
  body(delta: Delta): Uint8Array {
    const known = this.#bodies.get(delta);
    if (known !== undefined) return known;
    const parts = delta.resources.map((resource) => this.#field(resource, delta.aliases));
    if (delta.removed.length > 0) parts.push(encodeRemoved(delta.removed));
    const body = parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts);
    this.#bodies.set(delta, body);
    return body;
  }

  #field(resource: XdsResource, withAliases: boolean): Uint8Array {
    const aliases = withAliases ? (resource.aliases ?? NO_ALIASES) : NO_ALIASES;
    const fields = aliases.length === 0 ? this.#fields : this.#fieldsWithAliases;
    let field = fields.get(resource);
    if (field === undefined) {
      const { source } = this;
      const { name, version } = resource;
      const bytes = source.carry?.(resource) ?? resource.bytes;
      field = encodeResourceField(source.typeUrl, { name, version, bytes }, aliases);
      fields.set(resource, field);
    }
    return field;
  }
}
