// Queries over TCP: a length before each message, several on their way at once, answers in any order (RFC 7766 §6.2).
// Everything a connection can make us hold is bounded.

import type net from 'node:net';
import { reasonOf } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Protocol } from './forward.ts';
import { framed } from './tcp-exchange.ts';

/** Without a byte in either direction and without an answer outstanding (ztunnel.md §10.1). */
const IDLE_MS = 5_000;
/** Of one pod; more are closed at once. */
const MOST_CONNECTIONS = 64;
/** More stay in the kernel until answers have left. */
const MOST_OUTSTANDING = 32;
/** One question with its EDNS options; nobody has a longer one for us. */
const MOST_QUERY_BYTES = 4096;
/** Answers that the asker does not read. */
const MOST_UNREAD_BYTES = 128 * 1024;

export interface QueryHandler {
  /** Calls back at most once, possibly before it returns; with `undefined` when there is nothing to say. */
  handle(bytes: Uint8Array, protocol: Protocol, reply: (answer: Uint8Array | undefined) => void): void;
}

/** Returns how to end what it serves. */
export function serveTcp(listener: net.Server, log: Logger, handler: QueryHandler): () => void {
  const open = new Set<net.Socket>();
  listener.maxConnections = MOST_CONNECTIONS;
  listener.on('error', (error) => log.warn('DNS listener', { error: reasonOf(error) }));
  listener.on('connection', (socket: net.Socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    new QueryStream(socket, handler);
  });
  return () => {
    for (const socket of open) socket.destroy();
  };
}

class QueryStream {
  readonly #socket: net.Socket;
  readonly #handler: QueryHandler;
  /** Read, but not handed on yet. At most one read and one incomplete query. */
  #held: Buffer = Buffer.alloc(0);
  #outstanding = 0;
  #hasEnded = false;
  #isBusy = false;

  constructor(socket: net.Socket, handler: QueryHandler) {
    this.#socket = socket;
    this.#handler = handler;
    socket.setTimeout(IDLE_MS, () => {
      if (this.#outstanding === 0) socket.destroy();
      else socket.setTimeout(IDLE_MS);
    });
    socket.on('error', () => {}); // The asker went away; 'close' follows.
    socket.on('data', (chunk: Buffer) => {
      this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
      this.#advance();
    });
    socket.on('drain', () => this.#advance());
    socket.on('end', () => {
      this.#hasEnded = true;
      this.#advance();
    });
  }

  /** Hands on what may be handed on; answers that come at once call back in here, and are looked after by the loop. */
  #advance(): void {
    if (this.#isBusy || this.#socket.destroyed) return;
    this.#isBusy = true;
    while (this.#mayTakeMore && this.#takeOne());
    this.#isBusy = false;
    if (this.#socket.destroyed) return;
    if (this.#mayTakeMore) this.#socket.resume();
    else this.#socket.pause();
    if (this.#hasEnded && this.#outstanding === 0) this.#socket.end();
  }

  get #mayTakeMore(): boolean {
    return this.#outstanding < MOST_OUTSTANDING && this.#socket.writableLength < MOST_UNREAD_BYTES;
  }

  #takeOne(): boolean {
    const held = this.#held;
    if (this.#socket.destroyed || held.length < 2) return false;
    const length = held.readUInt16BE(0);
    if (length > MOST_QUERY_BYTES) {
      this.#socket.destroy();
      return false;
    }
    if (held.length < 2 + length) return false;
    this.#held = held.subarray(2 + length);
    this.#outstanding++;
    this.#handler.handle(held.subarray(2, 2 + length), 'tcp', (answer) => this.#reply(answer));
    return true;
  }

  #reply(answer: Uint8Array | undefined): void {
    this.#outstanding--;
    if (this.#socket.destroyed) return;
    if (answer === undefined) {
      // Not a message: where the next one begins cannot be known.
      this.#socket.destroy();
      return;
    }
    this.#socket.write(framed(answer));
    this.#advance();
  }
}
