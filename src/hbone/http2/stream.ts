// One stream as both sides of it see it: bytes that wait to be sent or to be read, half-closes, and the truth about the
// end. Frames and windows of the session are session.ts's; whether the stream was a good idea is its owner's.

import type { MeshError } from '#base/errors.ts';
import type { BufferPool } from '../buffer-pool.ts';
import type { HboneStream, StreamOutcome, StreamSink } from '../hbone.ts';
import { ByteQueue } from './byte-queue.ts';
import { CANCEL, errorName, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM } from './errors.ts';

const RESET_CODES = { NO_ERROR, CANCEL, INTERNAL_ERROR, REFUSED_STREAM } as const;
const CLEAN: StreamOutcome = { clean: true };

/** What a stream needs of its session. */
export interface StreamSession {
  /** For bytes that wait. */
  readonly blocks: BufferPool;
  /** Sends as much as windows and the socket allow now; returns how many bytes that was. */
  sendData(stream: Stream, chunk: Uint8Array): number;
  sendEnd(stream: Stream): void;
  sendReset(stream: Stream, code: number): void;
  /** Writers should wait, though their bytes were taken. */
  readonly isBacklogged: boolean;
  /** `Stream.proceed` is called when there may be room again. */
  wait(stream: Stream): void;
  /** Unread bytes came (positive) or went. */
  countUnread(bytes: number): void;
  /** Bytes left for their reader: the peer may send more. */
  grant(stream: Stream): void;
  /** Nothing goes over the wire for this stream any more. */
  forget(stream: Stream): void;
}

/**
 * Who opened or serves a stream, until its end is its sink's matter. An object, not a pair of functions: V8 lets functions that
 * are stored for each of thousands of streams grow old, and all that they know with them.
 */
export interface StreamOwner {
  /** Client: the answer. */
  answered?(stream: Stream, status: number, headers: readonly string[]): void;
  /** The stream is over; before its sink hears of it, also without a sink. */
  closed(stream: Stream, outcome: StreamOutcome): void;
}

export class Stream implements HboneStream {
  readonly id: number;
  /** Flow control (RFC 9113 §5.2), kept by the session. Both may be negative after a change of settings. */
  sendWindow: number;
  receiveWindow: number;
  /** It has sent, or was told that it may, since the session last had no room. The session's. */
  isSending = false;
  /** The peer ended its direction; what it sent may still be unread. */
  remoteEnded = false;
  owner: StreamOwner | undefined;
  /** Client: no answer came yet. */
  isUnanswered = false;
  /** The peer proved that it never looked at this stream. */
  isUnprocessed = false;

  readonly #session: StreamSession;
  #sink: StreamSink | undefined;
  /** Set a moment after `attach`, so that nobody is called back from inside it. */
  #isLive = false;
  #isPaused = false;
  #isDelivering = false;
  // Made when first needed: most streams of a quiet tunnel never are.
  #unread: ByteQueue | undefined;
  #unsent: ByteQueue | undefined;
  #isEnding = false;
  #endSent = false;
  #endTold = false;
  #closeTold = false;
  #wantsDrain = false;
  #isForgotten = false;
  #outcome: StreamOutcome | undefined;

  constructor(session: StreamSession, id: number, sendWindow: number, receiveWindow: number) {
    this.#session = session;
    this.id = id;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
  }

  get isOver(): boolean {
    return this.#outcome !== undefined;
  }

  get unreadBytes(): number {
    return this.#unread?.bytes ?? 0;
  }

  attach(sink: StreamSink): void {
    this.#sink = sink;
    queueMicrotask(() => {
      this.#isLive = true;
      if (this.#outcome === undefined) this.#deliver();
      else this.#tellClosed(this.#outcome);
    });
  }

  write(chunk: Uint8Array): boolean {
    if (this.#outcome !== undefined || this.#isEnding) return false;
    if (chunk.length === 0) return true;
    if (this.#unsent === undefined || this.#unsent.bytes === 0) {
      const sent = this.#session.sendData(this, chunk);
      if (sent === chunk.length) {
        if (!this.#session.isBacklogged) return true;
      } else {
        this.#unsent ??= new ByteQueue(this.#session.blocks);
        this.#unsent.push(sent === 0 ? chunk : chunk.subarray(sent));
      }
    } else this.#unsent.push(chunk);
    this.#wantsDrain = true;
    this.#session.wait(this);
    return false;
  }

  /** The session has no room, whoever took it. */
  hold(): void {
    if (this.#outcome !== undefined || this.#isEnding || this.#wantsDrain) return;
    this.#wantsDrain = true;
    this.#session.wait(this);
    this.#sink?.hold?.();
  }

  end(): void {
    if (this.#outcome !== undefined || this.#isEnding) return;
    this.#isEnding = true;
    this.#endWhenSent();
  }

  /** The answer carried END_STREAM. */
  endedByHeaders(): void {
    this.#isEnding = true;
    this.#endSent = true;
    this.#forgetWhenDone();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#deliver();
  }

  reset(code: keyof typeof RESET_CODES): void {
    const isClean = code === 'NO_ERROR' || code === 'CANCEL';
    this.fail(RESET_CODES[code], isClean ? CLEAN : { clean: false, reason: `reset by us with ${code}` });
  }

  /** RST_STREAM from us. The sink hears of it a moment later, never from inside this call. */
  fail(code: number, outcome: StreamOutcome): void {
    if (this.#outcome !== undefined) return;
    if (!this.#isForgotten) this.#session.sendReset(this, code);
    this.#close(outcome, true);
  }

  /** Room was found for what waits; false when some of it still does. */
  proceed(): boolean {
    if (this.#outcome !== undefined) return true;
    const unsent = this.#unsent;
    for (let chunk = unsent?.shift(); chunk !== undefined; chunk = unsent?.shift()) {
      const sent = this.#session.sendData(this, chunk);
      if (sent < chunk.length) {
        unsent?.putBack(chunk.length - sent);
        return false;
      }
    }
    if (this.#isEnding) this.#endWhenSent();
    else if (this.#session.isBacklogged) return false;
    else if (this.#wantsDrain) {
      this.#wantsDrain = false;
      this.#sink?.drain();
    }
    return true;
  }

  /** The chunk is valid during the call only. */
  receive(chunk: Buffer): void {
    if (this.#outcome !== undefined) return;
    if (this.#isLive && !this.#isPaused && this.unreadBytes === 0) {
      this.#sink!.data(chunk);
      return;
    }
    this.#unread ??= new ByteQueue(this.#session.blocks);
    this.#unread.push(chunk);
    this.#session.countUnread(chunk.length);
  }

  /** END_STREAM. */
  receiveEnd(): void {
    if (this.#outcome !== undefined || this.remoteEnded) return;
    this.remoteEnded = true;
    this.#forgetWhenDone();
    this.#deliver();
  }

  /** RST_STREAM from the peer: NO_ERROR and CANCEL are ordinary ends (ztunnel.md §5.6). */
  receiveReset(code: number): void {
    if (code === REFUSED_STREAM) this.isUnprocessed = true;
    this.#forget();
    const isClean = code === NO_ERROR || code === CANCEL;
    // What the peer sent whole may be read to its end, though it takes nothing more from us.
    if (isClean && this.remoteEnded && this.unreadBytes > 0) {
      this.#isEnding = true;
      this.#endSent = true;
      this.#unsent?.clear();
      return;
    }
    this.#close(
      isClean ? CLEAN : { clean: false, reason: `the peer reset the stream with ${errorName(code)}` },
    );
  }

  /** The session ended under the stream. */
  abandon(reason: string, error?: MeshError): void {
    this.#forget();
    this.#close({ clean: false, reason, ...(error === undefined ? {} : { error }) });
  }

  #deliver(): void {
    if (!this.#isLive || this.#isDelivering || this.#outcome !== undefined) return;
    const sink = this.#sink!;
    const unread = this.#unread;
    this.#isDelivering = true;
    let isMoved = false;
    while (!this.#isPaused && this.#outcome === undefined) {
      const chunk = unread?.shift();
      if (chunk === undefined) break;
      isMoved = true;
      this.#session.countUnread(-chunk.length);
      sink.data(chunk);
    }
    this.#isDelivering = false;
    if (this.#outcome !== undefined) return;
    if (isMoved) this.#session.grant(this);
    if (this.remoteEnded && this.unreadBytes === 0 && !this.#endTold) {
      this.#endTold = true;
      sink.end();
    }
    this.#finishWhenDone();
  }

  #endWhenSent(): void {
    if (this.#endSent) return;
    if (this.#unsent !== undefined && this.#unsent.bytes > 0) {
      this.#session.wait(this);
      return;
    }
    this.#endSent = true;
    this.#session.sendEnd(this);
    this.#forgetWhenDone();
    // Not from inside `end`: its caller may not be done with its own part yet.
    if (this.#endTold) queueMicrotask(() => this.#finishWhenDone());
  }

  #forgetWhenDone(): void {
    if (this.remoteEnded && this.#endSent) this.#forget();
  }

  #forget(): void {
    if (this.#isForgotten) return;
    this.#isForgotten = true;
    this.#session.forget(this);
  }

  #finishWhenDone(): void {
    if (this.#endSent && this.#endTold) this.#close(CLEAN);
  }

  #close(outcome: StreamOutcome, isLater = false): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = outcome;
    this.#unsent?.clear();
    this.#unsent = undefined;
    if (this.unreadBytes > 0) this.#session.countUnread(-this.unreadBytes);
    this.#unread?.clear();
    this.#unread = undefined;
    this.#forget();
    const tell = (): void => {
      const { owner } = this;
      this.owner = undefined;
      owner?.closed(this, outcome);
      this.#tellClosed(outcome);
    };
    if (isLater) queueMicrotask(tell);
    else tell();
  }

  #tellClosed(outcome: StreamOutcome): void {
    if (!this.#isLive || this.#closeTold) return;
    this.#closeTold = true;
    this.#sink?.close(outcome);
  }
}
