// Ownership as a tree: closing a scope closes everything it owns, children first, exactly once.
// Used in place of shared AbortSignals, whose listeners cost O(n) and outlive what they belong to.

export type Closer = () => void;

/** Node takes a longer delay, of 25 days, for one of a millisecond. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export class Scope {
  readonly name: string;
  #closed = false;
  #parent: Scope | undefined;
  readonly #owned = new Set<Closer | Scope>();

  constructor(name: string, parent?: Scope) {
    this.name = name;
    this.#parent = parent;
    if (parent !== undefined) parent.#adopt(this);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** A scope that closes with this one, and may close earlier by itself. */
  child(name: string): Scope {
    return new Scope(name, this);
  }

  /**
   * Registers what to do at close; runs it at once if the scope is closed already.
   * Returns a function that forgets the closer without running it.
   */
  onClose(closer: Closer): () => void {
    if (this.#closed) {
      closer();
      return () => {};
    }
    this.#owned.add(closer);
    return () => {
      this.#owned.delete(closer);
    };
  }

  /** A timer that cannot outlive the scope and does not keep the process alive by itself. */
  timeout(delayMs: number, run: () => void): () => void {
    let timer: NodeJS.Timeout;
    const wait = (leftMs: number): void => {
      timer = setTimeout(
        () => {
          if (leftMs > MAX_TIMER_MS) return wait(leftMs - MAX_TIMER_MS);
          forget();
          run();
        },
        Math.min(leftMs, MAX_TIMER_MS),
      );
      timer.unref();
    };
    wait(delayMs);
    const forget = this.onClose(() => clearTimeout(timer));
    return () => {
      clearTimeout(timer);
      forget();
    };
  }

  /** Last registered, first closed. A closer that throws does not stop the others; its error is rethrown at the end. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#parent !== undefined) this.#parent.#owned.delete(this);
    this.#parent = undefined;
    const errors: unknown[] = [];
    for (const owned of [...this.#owned].reverse()) {
      try {
        if (owned instanceof Scope) owned.close();
        else owned();
      } catch (error) {
        errors.push(error);
      }
    }
    this.#owned.clear();
    if (errors.length > 0)
      throw errors.length === 1 ? errors[0] : new AggregateError(errors, `closing ${this.name}`);
  }

  #adopt(child: Scope): void {
    if (this.#closed) throw new Error(`scope ${this.name} is closed; ${child.name} cannot start in it`);
    this.#owned.add(child);
  }
}
