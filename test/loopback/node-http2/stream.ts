// One CONNECT stream of node:http2 as an HboneStream. Its business is the truth about how the stream ended: node:http2
// emits 'end' for resets and lost connections too, so 'end' alone means nothing.

import type { Http2Stream } from 'node:http2';
import { addAbortSignal } from 'node:stream';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { HboneStream, StreamOutcome, StreamSink } from '#hbone/hbone.ts';
import type { SessionLife } from './session.ts';

const NO_ERROR = 0;
const REFUSED_STREAM = 7;
const CANCEL = 8;

/** Aborting a stream is node:http2's only way to send CANCEL without END_STREAM before it. */
const ABORTED = AbortSignal.abort();

export class Http2HboneStream implements HboneStream {
  readonly #http: Http2Stream;
  readonly #life: SessionLife;
  #sink: StreamSink | undefined;
  #peerEnded = false;
  #failure: unknown;
  #outcome: StreamOutcome | undefined;

  /** `http` has an 'error' listener from here on. */
  constructor(http: Http2Stream, life: SessionLife) {
    this.#http = http;
    this.#life = life;
    http.on('error', (error) => {
      this.#failure = error;
    });
    http.once('close', () => {
      this.#outcome = this.#outcomeOf();
      this.#sink?.close(this.#outcome);
    });
  }

  attach(sink: StreamSink): void {
    this.#sink = sink;
    const http = this.#http;
    const outcome = this.#outcome;
    if (outcome !== undefined) {
      queueMicrotask(() => sink.close(outcome));
      return;
    }
    http.on('drain', () => sink.drain());
    http.on('end', () => {
      if (!this.#endIsClean()) return;
      this.#peerEnded = true;
      sink.end();
    });
    http.on('data', (chunk: Uint8Array) => sink.data(chunk));
  }

  write(chunk: Uint8Array): boolean {
    const http = this.#http;
    // Over already: 'close' is on its way and will say so.
    if (http.destroyed || http.writableEnded) return false;
    return http.write(Buffer.from(chunk));
  }

  end(): void {
    if (!this.#http.destroyed) this.#http.end();
  }

  pause(): void {
    this.#http.pause();
  }

  resume(): void {
    this.#http.resume();
  }

  reset(code: 'NO_ERROR' | 'CANCEL' | 'INTERNAL_ERROR' | 'REFUSED_STREAM'): void {
    const http = this.#http;
    if (http.destroyed) return;
    switch (code) {
      case 'NO_ERROR':
        http.destroy();
        break;
      case 'CANCEL':
        addAbortSignal(ABORTED, http);
        break;
      case 'INTERNAL_ERROR':
        http.destroy(new MeshError('HBONE_PROTOCOL', 'reset by us with INTERNAL_ERROR'));
        break;
      case 'REFUSED_STREAM':
        // node:http2 half-closes first; before a response that is the refusal itself.
        http.close(REFUSED_STREAM);
        break;
    }
  }

  /** 'end' also follows a reset and a lost connection. */
  #endIsClean(): boolean {
    const http = this.#http;
    return !http.aborted && (http.rstCode ?? NO_ERROR) === NO_ERROR && !this.#life.over;
  }

  #outcomeOf(): StreamOutcome {
    const rstCode = this.#http.rstCode ?? NO_ERROR;
    if (this.#peerEnded && this.#http.writableEnded && rstCode === NO_ERROR && this.#failure === undefined) {
      return { clean: true };
    }
    // A connection that ends by FIN shows as CANCEL on each stream: only the session tells.
    if (this.#life.over && !isAbort(this.#failure)) return { clean: false, reason: this.#life.reason };
    if (rstCode === NO_ERROR || rstCode === CANCEL) return { clean: true };
    const reason = this.#failure === undefined ? `reset with code ${rstCode}` : reasonOf(this.#failure);
    return { clean: false, reason };
  }
}

function isAbort(failure: unknown): boolean {
  return failure instanceof Error && failure.name === 'AbortError';
}
