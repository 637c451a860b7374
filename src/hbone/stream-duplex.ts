// A CONNECT stream as a Duplex, so that TLS can run inside it (nested.ts). Only tunnels within tunnels come this way;
// ordinary bytes stay on the interface of hbone.ts.

import { Duplex } from 'node:stream';
import type { HboneStream, StreamOutcome } from './hbone.ts';

type Done = (error?: Error | null) => void;

class StreamDuplex extends Duplex {
  readonly #stream: HboneStream;
  #afterDrain: Done | undefined;
  #isEnded = false;
  #isClosed = false;

  constructor(stream: HboneStream) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
    stream.attach({
      data: (chunk) => {
        if (!this.push(Buffer.from(chunk))) stream.pause();
      },
      drain: () => this.#written(),
      end: () => this.#finishReading(),
      close: (outcome) => this.#onClose(outcome),
    });
  }

  override _read(): void {
    this.#stream.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    if (this.#isClosed) done(new Error('the outer tunnel takes no more'));
    else if (this.#stream.write(chunk)) done();
    else this.#afterDrain = done;
  }

  override _final(done: Done): void {
    this.#stream.end();
    done();
  }

  override _destroy(error: Error | null, done: Done): void {
    // Has no effect on a stream that came to its own end.
    this.#stream.reset('CANCEL');
    done(error);
  }

  #written(error?: Error): void {
    const done = this.#afterDrain;
    this.#afterDrain = undefined;
    done?.(error);
  }

  #finishReading(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.push(null);
  }

  #onClose({ clean, reason }: StreamOutcome): void {
    this.#isClosed = true;
    if (!clean) {
      this.destroy(new Error(reason ?? 'the outer tunnel broke'));
      return;
    }
    // What came whole may still be read, so it is not destroyed here.
    this.#finishReading();
    this.#written(new Error('the outer tunnel takes no more'));
  }
}

/** Takes the stream over. */
export function duplexOf(stream: HboneStream): Duplex {
  return new StreamDuplex(stream);
}
