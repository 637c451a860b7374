// A set for members that come and go by the thousand per second. V8's own Set and Map get a new table every few changes, and
// the old one keeps a link to the new one and its entries. Once one table has grown old, every later one grows old behind
// it, and whatever was a member with all that hangs from it: until the next full collection, which thus comes early.

export interface Member {
  /** The roster's; a member belongs to one. */
  place?: number | undefined;
}

export class Roster<T extends Member> {
  readonly #members: T[] = [];

  get size(): number {
    return this.#members.length;
  }

  /** Not one that is in it. */
  add(member: T): void {
    member.place = this.#members.push(member) - 1;
  }

  /** False when it was not in it. */
  delete(member: T): boolean {
    const { place } = member;
    if (place === undefined) return false;
    member.place = undefined;
    const last = this.#members.pop()!;
    if (last !== member) {
      this.#members[place] = last;
      last.place = place;
    }
    return true;
  }

  /** As they are now, in no order; members may go meanwhile. */
  all(): T[] {
    return [...this.#members];
  }
}
