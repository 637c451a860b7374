// Writing to a socket without the bookkeeping of node:stream: whoever gathers bytes (gathered-writer.ts) already sees to it
// that one write is under way at a time, and waits for its end. What Writable does besides (a state, a queue, a tick of its
// own for every callback) costs more than the TLS record while requests are few and no code is warm.

import type { Duplex } from 'node:stream';
import type { WritableSocket } from './gathered-writer.ts';

type Written = (error?: Error | null) => void;

/** Takes over the writing half: nobody else may write to the socket or end it. */
export class WriteThrough implements WritableSocket {
  readonly #socket: Duplex;
  /** Behind the write under way; only what is said last ever waits here. */
  readonly #queue: [bytes: Uint8Array, written: Written][] = [];
  #written: Written | undefined;
  #isEnding = false;
  readonly #onWritten = (error?: Error | null): void => {
    const written = this.#written;
    this.#written = undefined;
    if (error) {
      this.#queue.length = 0;
      this.#socket.destroy(error);
      return;
    }
    written?.();
    const next = this.#queue.shift();
    if (next !== undefined) this.#start(...next);
    else this.#endWhenDone();
  };

  constructor(socket: Duplex) {
    this.#socket = socket;
  }

  write(bytes: Uint8Array, written: Written): void {
    if (this.#written !== undefined) this.#queue.push([bytes, written]);
    else this.#start(bytes, written);
  }

  /** FIN behind everything written. */
  end(): void {
    this.#isEnding = true;
    this.#endWhenDone();
  }

  #start(bytes: Uint8Array, written: Written): void {
    this.#written = written;
    // A method for makers of streams, not for their users; a socket's own does all that is needed, whoever calls it.
    this.#socket._write(bytes, 'buffer' as BufferEncoding, this.#onWritten);
  }

  #endWhenDone(): void {
    if (this.#isEnding && this.#written === undefined && !this.#socket.destroyed) this.#socket.end();
  }
}
