// The open streams of a session, by number. Not a Map, whose tables make what was in them live long (base/roster.ts): open
// addressing with steps of one, at most half full; a removal closes the gap.

/** What the table needs of a stream. */
interface Numbered {
  readonly id: number;
}

const MIN_SLOTS = 16;

export class StreamTable<T extends Numbered> {
  #slots: (T | undefined)[] = new Array<T | undefined>(MIN_SLOTS).fill(undefined);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: number): T | undefined {
    return this.#slots[this.#find(id)];
  }

  has(id: number): boolean {
    return this.get(id) !== undefined;
  }

  /** Not one whose number is taken. */
  add(stream: T): void {
    if (2 * (this.#size + 1) > this.#slots.length) this.#grow();
    this.#slots[this.#find(stream.id)] = stream;
    this.#size += 1;
  }

  delete(id: number): boolean {
    const slots = this.#slots;
    const last = slots.length - 1;
    let gap = this.#find(id);
    if (slots[gap] === undefined) return false;
    // Those behind it that would have liked its place, or one before it, move up (Knuth 6.4, algorithm R).
    for (let at = (gap + 1) & last; slots[at] !== undefined; at = (at + 1) & last) {
      const steps = (at - (slots[at]!.id >>> 1)) & last;
      if (steps < ((at - gap) & last)) continue;
      slots[gap] = slots[at];
      gap = at;
    }
    slots[gap] = undefined;
    this.#size -= 1;
    return true;
  }

  /** As they are now; streams may go meanwhile. */
  values(): T[] {
    return this.#slots.filter((stream) => stream !== undefined);
  }

  clear(): void {
    this.#slots.fill(undefined);
    this.#size = 0;
  }

  /** Where it is, or would be. */
  #find(id: number): number {
    const slots = this.#slots;
    const last = slots.length - 1;
    // One end's numbers are all odd or all even.
    let at = (id >>> 1) & last;
    while (slots[at] !== undefined && slots[at]!.id !== id) at = (at + 1) & last;
    return at;
  }

  #grow(): void {
    const before = this.#slots;
    this.#slots = new Array<T | undefined>(2 * before.length).fill(undefined);
    for (const stream of before) if (stream !== undefined) this.#slots[this.#find(stream.id)] = stream;
    // It may be old: what it holds is not to grow old with it.
    before.fill(undefined);
  }
}
