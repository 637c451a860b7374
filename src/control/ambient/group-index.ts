// Keys by group: which pods are on a node, which services are in a namespace. Empty groups are forgotten.

export class GroupIndex {
  readonly #groups = new Map<string, Set<string>>();

  add(group: string, key: string): void {
    const keys = this.#groups.get(group);
    if (keys === undefined) this.#groups.set(group, new Set([key]));
    else keys.add(key);
  }

  remove(group: string, key: string): void {
    const keys = this.#groups.get(group);
    if (keys?.delete(key) === true && keys.size === 0) this.#groups.delete(group);
  }

  get(group: string): Iterable<string> {
    return this.#groups.get(group) ?? [];
  }
}
