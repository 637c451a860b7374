// One query to other servers over UDP: to the first, after a second to the next, and so on; the first usable answer counts,
// from whichever server and however late. Each has its own socket: a port nobody can guess, and the kernel drops what
// comes from elsewhere (RFC 5452 §9).

import { randomInt } from 'node:crypto';
import type dgram from 'node:dgram';
import { MeshError, reasonOf } from '#base/errors.ts';
import { formatSocketAddress, type SocketAddress } from '#net/host-port.ts';
import { isAnswerTo, type Query, rcodeOf } from './message.ts';
import type { UpstreamSockets } from './sockets.ts';

/** A lost datagram, or a dead server, costs the asker this much. */
const NEXT_TRY_MS = 1000;
/** What a server says that cannot or will not answer; another one may (SERVFAIL, NOTIMP, REFUSED). */
const UNUSABLE_RCODES: ReadonlySet<number> = new Set([2, 4, 5]);

export interface ExchangeResult {
  readonly response: Buffer;
  readonly server: SocketAddress;
}

export interface Exchange {
  /** Rejects with MeshError `DNS_NO_ANSWER`. */
  readonly result: Promise<ExchangeResult>;
  cancel(): void;
}

export interface ExchangeOptions {
  /** In the order of preference, at least one. */
  readonly servers: readonly SocketAddress[];
  /** Rounds over the servers. */
  readonly attempts: number;
  readonly deadlineMs: number;
}

export function isUsable(response: Uint8Array): boolean {
  return !UNUSABLE_RCODES.has(rcodeOf(response));
}

export function noAnswer(query: Query, reason: string, cause?: unknown): MeshError {
  return new MeshError('DNS_NO_ANSWER', `no answer about ${query.name ?? 'a name'}: ${reason}`, { cause });
}

/** An id that its asker cannot foresee. */
export function unguessableId(): number {
  return randomInt(0x1_0000);
}

export function exchangeUdp(sockets: UpstreamSockets, query: Query, options: ExchangeOptions): Exchange {
  const exchange = new UdpExchange(sockets, query, options);
  return { result: exchange.result, cancel: () => exchange.fail('the pod was removed') };
}

class UdpExchange {
  readonly result: Promise<ExchangeResult>;
  readonly #sockets: UpstreamSockets;
  readonly #query: Query;
  readonly #options: ExchangeOptions;
  readonly #id = unguessableId();
  readonly #message: Buffer;
  readonly #settle: PromiseWithResolvers<ExchangeResult>;
  /** By server: a socket while an answer may come from it, null once it has failed. */
  readonly #asked = new Map<SocketAddress, dgram.Socket | null>();
  #tries = 0;
  #isSettled = false;
  #nextTry: NodeJS.Timeout | undefined;
  readonly #deadline: NodeJS.Timeout;
  /** The best that was heard so far: an answer that is passed on if nothing better comes. */
  #unusable: ExchangeResult | undefined;
  #lastFailure = 'no server answered in time';

  constructor(sockets: UpstreamSockets, query: Query, options: ExchangeOptions) {
    this.#sockets = sockets;
    this.#query = query;
    this.#options = options;
    this.#message = Buffer.from(query.bytes);
    this.#message.writeUInt16BE(this.#id, 0);
    this.#settle = Promise.withResolvers();
    this.result = this.#settle.promise;
    this.#deadline = setTimeout(() => this.fail(this.#lastFailure), options.deadlineMs);
    this.#try();
  }

  fail(reason: string, cause?: unknown): void {
    if (this.#unusable !== undefined) this.#end(() => this.#settle.resolve(this.#unusable as ExchangeResult));
    else this.#end(() => this.#settle.reject(noAnswer(this.#query, reason, cause)));
  }

  #end(settle: () => void): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    clearTimeout(this.#deadline);
    clearTimeout(this.#nextTry);
    for (const socket of this.#asked.values()) socket?.close();
    this.#asked.clear();
    settle();
  }

  #try(): void {
    const { servers, attempts } = this.#options;
    clearTimeout(this.#nextTry);
    // Servers that have failed are passed over; with none left, waiting would be for nothing.
    while (this.#tries < servers.length * attempts) {
      const server = servers[this.#tries++ % servers.length] as SocketAddress;
      const socket = this.#asked.get(server);
      if (socket === null) continue;
      if (socket === undefined) this.#ask(server);
      else this.#send(server, socket);
      this.#nextTry = setTimeout(() => this.#try(), NEXT_TRY_MS);
      return;
    }
    if ([...this.#asked.values()].every((socket) => socket === null)) this.fail(this.#lastFailure);
  }

  #ask(server: SocketAddress): void {
    let socket: dgram.Socket;
    try {
      socket = this.#sockets.udp(server);
    } catch (error) {
      // Not of this server: no descriptor, or no namespace any more. Later, so that the caller has us first.
      queueMicrotask(() => this.fail(reasonOf(error), error));
      return;
    }
    this.#asked.set(server, socket);
    socket.on('message', (response) => this.#heard(server, response));
    // Also an ICMP answer: nobody listens there.
    socket.on('error', (error) => this.#failed(server, reasonOf(error)));
    socket.connect(server.port, server.ip, () => {
      if (!this.#isSettled) this.#send(server, socket);
    });
  }

  #send(server: SocketAddress, socket: dgram.Socket): void {
    socket.send(this.#message, (error) => {
      if (error !== null) this.#failed(server, reasonOf(error));
    });
  }

  #heard(server: SocketAddress, response: Buffer): void {
    if (this.#isSettled || !isAnswerTo(this.#query, this.#id, response)) return;
    const result = { response, server };
    if (isUsable(response)) {
      this.#end(() => this.#settle.resolve(result));
      return;
    }
    this.#unusable ??= result;
    this.#failed(server, `answered with code ${rcodeOf(response)}`);
  }

  #failed(server: SocketAddress, reason: string): void {
    const socket = this.#asked.get(server);
    if (this.#isSettled || socket === null || socket === undefined) return;
    this.#lastFailure = `${formatSocketAddress(server)}: ${reason}`;
    this.#asked.set(server, null);
    socket.close();
    this.#try();
  }
}
