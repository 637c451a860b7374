// Writing to a socket without the bookkeeping of node:stream: whoever gathers bytes (gathered-writer.ts) already sees to it
// that one write is under way at a time, and waits for its end. What Writable does besides (a state, a queue, a tick of its
// own for every callback) costs more than the TLS record while requests are few and no code is warm.

import type { Duplex } from 'node:stream';
import { getSystemErrorName } from 'node:util';
import { newWriteRequest } from '#linux/tcp-handle.ts';
import type { WritableSocket } from './gathered-writer.ts';
import { tlsHandleOf } from './tls-insides.ts';

type Written = (error?: Error | null) => void;

/**
 * Nobody waits for the end of smaller ones: TLS has taken the bytes when the call returns, and Node's report of the end is
 * one more entry into JavaScript, in a turn of its own. It is asked for when another write comes before it.
 */
const QUIET_BYTES = 8192;

/** Takes over the writing half: nobody else may write to the socket or end it. */
export class WriteThrough implements WritableSocket {
  readonly #socket: Duplex;
  readonly #handle: ReturnType<typeof tlsHandleOf>;
  /** One serves write after write, two take turns where one write follows from the other's end: it is in use until then. */
  #request = newWriteRequest();
  #other = newWriteRequest();
  /** Behind the write under way; only what is said last ever waits here. */
  readonly #queue: [bytes: Uint8Array, written: Written][] = [];
  #written: Written | undefined;
  /** The end of the last write was not waited for: how it went stands in the request, or will. */
  #isQuiet = false;
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
  readonly #onComplete = (status: number): void => {
    this.#isQuiet = false;
    [this.#request, this.#other] = [this.#other, this.#request];
    this.#onWritten(errorOf(status));
  };

  constructor(socket: Duplex) {
    this.#socket = socket;
    this.#handle = tlsHandleOf(socket);
  }

  write(bytes: Uint8Array, written: Written): void {
    if (this.#isUnderWay()) this.#queue.push([bytes, written]);
    else this.#start(bytes, written);
  }

  /** FIN behind everything written. */
  end(): void {
    this.#isEnding = true;
    this.#endWhenDone();
  }

  #start(bytes: Uint8Array, written: Written): void {
    if (this.#handle === undefined) {
      this.#written = written;
      // A method for makers of streams, not for their users; a socket's own does all that is needed, whoever calls it.
      this.#socket._write(bytes, 'buffer' as BufferEncoding, this.#onWritten);
      return;
    }
    if (this.#socket.destroyed) return;
    const request = this.#request;
    const isQuiet = bytes.length <= QUIET_BYTES && this.#queue.length === 0 && !this.#isEnding;
    this.#isQuiet = isQuiet;
    this.#written = isQuiet ? undefined : written;
    request.writeStatus = null;
    request.oncomplete = isQuiet ? null : this.#onComplete;
    const status = this.#handle.writeBuffer(request, bytes);
    if (status !== 0) this.#onComplete(status);
    else if (isQuiet) written();
  }

  /** If it is, its end is heard of. */
  #isUnderWay(): boolean {
    if (!this.#isQuiet) return this.#written !== undefined;
    const status = this.#request.writeStatus;
    if (status === null) {
      this.#isQuiet = false;
      this.#written = nothing;
      this.#request.oncomplete = this.#onComplete;
      return true;
    }
    this.#isQuiet = false;
    const error = errorOf(status);
    if (error !== undefined) this.#socket.destroy(error);
    return false;
  }

  #endWhenDone(): void {
    if (this.#isEnding && !this.#isUnderWay() && !this.#socket.destroyed) this.#socket.end();
  }
}

const nothing = (): void => {};

function errorOf(status: number): Error | undefined {
  if (status === 0) return undefined;
  const code = getSystemErrorName(status);
  return Object.assign(new Error(`write ${code}`), { code });
}
