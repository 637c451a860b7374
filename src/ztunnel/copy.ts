// The only hot loop: bytes both ways between two streams, with half-close, back-pressure and counters.
// Per chunk there is no promise, no closure and no event object. Who may talk is decided before, what is said of it after.

import type { MeshError } from '#base/errors.ts';
import type { HboneStream, StreamOutcome, StreamSink } from '#hbone/hbone.ts';
import type { Cell } from '#telemetry/metrics.ts';

export interface CopyResult {
  /** From the opener of the connection to its server. */
  readonly forwardBytes: number;
  readonly backwardBytes: number;
  /** Undefined: both directions came to their own end. */
  readonly error: MeshError | string | undefined;
}

export interface LiveCopy {
  /** Resets both streams at once; `done` hears of it with this error. */
  close(error: MeshError): void;
}

/** Where bytes are counted as they are handed on. */
export interface CopyCounters {
  readonly forward: Cell;
  readonly backward: Cell;
}

/**
 * Starts copying between the stream that opened the connection and the one that serves it. `done` is called exactly once.
 *
 *     opener ── data/end ──▶ Pump ──▶ server.write/end          (forward)
 *     server ── data/end ──▶ Pump ──▶ opener.write/end          (backward)
 *
 * End of one side becomes half-close of the other; each direction runs to its own end; there is no idle limit.
 */
export function copy(
  opener: HboneStream,
  server: HboneStream,
  counters: CopyCounters,
  done: (result: CopyResult) => void,
): LiveCopy {
  let isOver = false;
  let error: MeshError | string | undefined;
  const finish = (): void => {
    if (isOver) return;
    isOver = true;
    done({ forwardBytes: forward.bytes, backwardBytes: backward.bytes, error });
  };
  const onClosed = (outcome: StreamOutcome): void => {
    if (!outcome.clean) error ??= outcome.error ?? outcome.reason ?? 'the stream was reset';
    if (forward.closed && backward.closed) finish();
  };
  const forward = new Pump(opener, server, counters.forward, onClosed);
  const backward = new Pump(server, opener, counters.backward, onClosed);
  forward.other = backward;
  backward.other = forward;
  opener.attach(forward);
  server.attach(backward);
  return {
    close: (reason) => {
      if (isOver) return;
      error = reason;
      forward.closed = true;
      backward.closed = true;
      // Not CANCEL, which both ends of the field take for an ordinary end: what was cut must not look complete.
      opener.reset('INTERNAL_ERROR');
      server.reset('INTERNAL_ERROR');
      finish();
    },
  };
}

/** One direction: what `from` reads goes to `to`. */
class Pump implements StreamSink {
  bytes = 0;
  ended = false;
  closed = false;
  other: Pump | undefined;
  readonly #from: HboneStream;
  readonly #to: HboneStream;
  readonly #counter: Cell;
  readonly #onClosed: (outcome: StreamOutcome) => void;

  constructor(from: HboneStream, to: HboneStream, counter: Cell, onClosed: (outcome: StreamOutcome) => void) {
    this.#from = from;
    this.#to = to;
    this.#counter = counter;
    this.#onClosed = onClosed;
  }

  data(chunk: Uint8Array): void {
    if (this.closed) return;
    // Nobody is left to take it (the peer's broken pipe): close this side once what it was sent is flushed.
    if (this.other?.closed === true) {
      this.#from.reset('NO_ERROR');
      return;
    }
    this.bytes += chunk.length;
    this.#counter.value += chunk.length;
    if (!this.#to.write(chunk)) this.#from.pause();
  }

  /** `from` has no room for now, so the side that feeds it waits. */
  hold(): void {
    this.#to.pause();
  }

  /** `from` takes bytes again, so the side that feeds it may read on. */
  drain(): void {
    this.#to.resume();
  }

  end(): void {
    this.ended = true;
    if (this.other?.closed !== true) this.#to.end();
  }

  close(outcome: StreamOutcome): void {
    if (this.closed) return;
    this.closed = true;
    if (this.other?.closed !== true) {
      // A truncated stream must not look complete: a broken tunnel resets the application's connection. A TCP reset,
      // on the other hand, travels on as an ordinary end, as the peers do it (ztunnel.md §5.6).
      if (!outcome.clean) this.#to.reset('INTERNAL_ERROR');
      else if (!this.ended) this.#to.end();
      // It may have been held back for us; its end must be seen.
      if (outcome.clean && !this.other?.ended) this.#to.resume();
    }
    this.#onClosed(outcome);
  }
}
