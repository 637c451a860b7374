// How much unread data the peers may leave with us: per tunnel and per process. Flow control does the work; this file
// holds the arithmetic and the sum.
//
// A tunnel's window is its budget. A stream's window is the field's 4 MiB as long as everybody reads; the more of the
// budget lies unread, the smaller the windows of all its streams. So streams that nobody reads cannot take the whole
// window from the others, one after the other: it would need more of them than a tunnel has.

const MIB = 1 << 20;
const KIB = 1 << 10;

export const TUNNEL_BUDGET_BYTES = 16 * MIB;
export const PROCESS_BUDGET_BYTES = 256 * MIB;
export const MAX_STREAM_WINDOW_BYTES = 4 * MIB;
/** What a tunnel and its streams may still hold while the process as a whole is short. */
const TIGHT_TUNNEL_BYTES = MIB;
const TIGHT_WINDOW_BYTES = 64 * KIB;

const FIRST_STEP_BYTES = 4 * MIB;
/** From so many unread bytes on, streams have this window. Filling the budget takes 1 + 3 + 12 + 48 + 192 stalled streams. */
const STEPS: readonly (readonly [unreadBytes: number, windowBytes: number])[] = [
  [13 * MIB, 16 * KIB],
  [10 * MIB, 64 * KIB],
  [7 * MIB, 256 * KIB],
  [FIRST_STEP_BYTES, MIB],
];

/** Window of each stream of a tunnel with so much unread. */
export function streamWindow(unreadBytes: number, isTight: boolean): number {
  // Asked for every DATA frame, and nearly always answered here.
  if (unreadBytes < FIRST_STEP_BYTES && !isTight) return MAX_STREAM_WINDOW_BYTES;
  const [, windowBytes] = STEPS.find(([from]) => unreadBytes >= from) ?? [0, MAX_STREAM_WINDOW_BYTES];
  return isTight ? Math.min(windowBytes, TIGHT_WINDOW_BYTES) : windowBytes;
}

/** One number that threads count together; four bytes of shared memory. */
export type SharedCount = Int32Array<SharedArrayBuffer>;

/** Unread bytes of all tunnels of one process. */
export class ReceiveBudget {
  readonly #limitBytes: number;
  /** Where several threads serve, they share the sum. */
  readonly #shared: SharedCount | undefined;
  #ownBytes = 0;

  constructor(limitBytes = PROCESS_BUDGET_BYTES, shared?: SharedCount) {
    this.#limitBytes = limitBytes;
    this.#shared = shared;
  }

  get unreadBytes(): number {
    return this.#shared === undefined ? this.#ownBytes : Atomics.load(this.#shared, 0);
  }

  /** Half is gone: everybody gets small windows. */
  get isTight(): boolean {
    return this.unreadBytes > this.#limitBytes / 2;
  }

  /** Nothing is left: what comes now costs the stream that holds most. */
  get isExceeded(): boolean {
    return this.unreadBytes > this.#limitBytes;
  }

  /** What one tunnel may hold at present. */
  get tunnelBytes(): number {
    return this.isTight ? TIGHT_TUNNEL_BYTES : TUNNEL_BUDGET_BYTES;
  }

  add(bytes: number): void {
    if (this.#shared === undefined) this.#ownBytes += bytes;
    else Atomics.add(this.#shared, 0, bytes);
  }
}
