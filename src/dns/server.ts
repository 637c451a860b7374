// The DNS proxy of one pod (ztunnel.md §10): what the mesh knows is answered at once, everything else by another server.
// A query is one message in, at most one message out, whatever carries it.

import type dgram from 'node:dgram';
import type { Clock, Random } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import type { StoreView } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import type { Logger } from '#telemetry/log.ts';
import type { PendingBudget } from './budget.ts';
import { Forwarder, type Protocol } from './forward.ts';
import {
  answerCountOf,
  encodeAnswer,
  encodeFormatError,
  encodeRefusal,
  parseQuery,
  type Query,
  relayAnswer,
  SERVFAIL,
  TCP_MESSAGE_BYTES,
  udpLimit,
} from './message.ts';
import { type DnsCounters, logQuery, type QueryLabels, typeName } from './observe.ts';
import type { ResolverSettings } from './resolv-conf.ts';
import { type ResolveOptions, resolveQuery } from './resolve.ts';
import type { DnsSockets } from './sockets.ts';
import { type QueryHandler, serveTcp } from './tcp-server.ts';
import { isUsable } from './udp-exchange.ts';

export interface DnsServerDeps {
  readonly view: StoreView;
  /** The pod's own record; `get` waits for one that has not come, and rejects. */
  readonly client: { current(): Workload | undefined; get(): Promise<Workload> };
  readonly sockets: DnsSockets;
  readonly resolvers: ResolverSettings;
  readonly budget: PendingBudget;
  readonly counters: DnsCounters;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: Random;
}

export interface DnsServer {
  /** Ends at once: listeners, connections, and whatever waits for another server. */
  close(): void;
}

/** Serves until it is closed. */
export function serveDns(deps: DnsServerDeps, options: ResolveOptions): DnsServer {
  const proxy = new DnsProxy(deps, options);
  for (const socket of deps.sockets.datagrams) serveUdp(socket, deps.log, proxy);
  const closeTcp = deps.sockets.listeners.map((listener) => serveTcp(listener, deps.log, proxy));
  return {
    close: () => {
      proxy.close();
      deps.sockets.close();
      for (const close of closeTcp) close();
    },
  };
}

class DnsProxy implements QueryHandler {
  readonly #deps: DnsServerDeps;
  readonly #options: ResolveOptions;
  readonly #forwarder: Forwarder;
  #pending = 0;
  #isClosed = false;

  constructor(deps: DnsServerDeps, options: ResolveOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#forwarder = new Forwarder(deps.sockets, deps.resolvers);
  }

  close(): void {
    this.#isClosed = true;
    this.#forwarder.close();
  }

  handle(bytes: Uint8Array, protocol: Protocol, reply: (answer: Uint8Array | undefined) => void): void {
    const parsed = parseQuery(bytes);
    if (parsed.kind === 'query') {
      this.#answer(parsed.query, protocol, reply);
    } else if (parsed.kind === 'refused') {
      this.#deps.log.debug('query refused', { reason: parsed.reason });
      reply(encodeFormatError(bytes, parsed.rcode));
    } else reply(undefined);
  }

  #answer(query: Query, protocol: Protocol, reply: (answer: Uint8Array | undefined) => void): void {
    const client = this.#deps.client.current();
    const own = client === undefined ? undefined : this.#answerOwn(query, protocol, client);
    if (own !== undefined) {
      reply(own);
      return;
    }
    this.#later(query, protocol, client).then(
      (late) => reply(this.#isClosed ? undefined : late),
      (error) => {
        this.#deps.log.error('a query ended by an unexpected failure', { error: reasonOf(error) });
        reply(encodeRefusal(query, SERVFAIL));
      },
    );
  }

  /** Undefined: another server is to be asked. */
  #answerOwn(query: Query, protocol: Protocol, client: Workload): Uint8Array | undefined {
    const { view, random, counters, log } = this.#deps;
    const resolution = resolveQuery(view, client, query, random, this.#options);
    if (resolution.kind === 'forward') return undefined;
    const { answer, result } = resolution;
    counters.requested(labelsOf(query, protocol, client));
    logQuery(log, query, client, result, answer.addresses.length);
    return encodeAnswer(query, answer, limitOf(query, protocol));
  }

  /** Whatever cannot be answered at once holds a place in the budget. */
  async #later(query: Query, protocol: Protocol, known: Workload | undefined): Promise<Uint8Array> {
    const { budget, counters, log, client } = this.#deps;
    if (!budget.take(this.#pending)) {
      counters.requested(labelsOf(query, protocol, known));
      logQuery(log, query, known, 'refused: too many queries wait for an answer', 0);
      return encodeRefusal(query, SERVFAIL);
    }
    this.#pending++;
    try {
      const asker = known ?? (await client.get().catch(() => undefined));
      if (asker === undefined) {
        counters.requested(labelsOf(query, protocol, undefined));
        logQuery(log, query, undefined, 'refused: the asking workload is unknown', 0);
        return encodeRefusal(query, SERVFAIL);
      }
      const own = known === undefined ? this.#answerOwn(query, protocol, asker) : undefined;
      return own ?? (await this.#forward(query, protocol, asker));
    } finally {
      this.#pending--;
      budget.give();
    }
  }

  async #forward(query: Query, protocol: Protocol, client: Workload): Promise<Uint8Array> {
    const { counters, clock, log } = this.#deps;
    const labels = labelsOf(query, protocol, client);
    counters.requested(labels);
    counters.forwarded(labels);
    const start = clock.monotonicMs();
    const ended = (isFailed: boolean): void =>
      counters.forwardEnded(labels, clock.monotonicMs() - start, isFailed);
    try {
      const response = await this.#forwarder.ask(query, protocol);
      ended(!isUsable(response));
      logQuery(log, query, client, 'forwarded', answerCountOf(response));
      return relayAnswer(query, response, limitOf(query, protocol));
    } catch (error) {
      ended(true);
      logQuery(log, query, client, `forwarding failed (${reasonOf(error)})`, 0);
      return encodeRefusal(query, SERVFAIL);
    }
  }
}

function labelsOf(query: Query, protocol: Protocol, client: Workload | undefined): QueryLabels {
  return { type: typeName(query.type).toLowerCase(), protocol, client };
}

function limitOf(query: Query, protocol: Protocol): number {
  return protocol === 'udp' ? udpLimit(query) : TCP_MESSAGE_BYTES;
}

function serveUdp(socket: dgram.Socket, log: Logger, handler: QueryHandler): void {
  let isClosed = false;
  socket.on('close', () => {
    isClosed = true;
  });
  socket.on('error', (error) => log.warn('DNS socket', { error: reasonOf(error) }));
  socket.on('message', (query, from) =>
    handler.handle(query, 'udp', (answer) => {
      if (answer === undefined || isClosed) return;
      socket.send(answer, from.port, from.address, (error) => {
        // The asker has gone, or its answer is larger than any datagram: it asks again.
        if (error !== null) log.debug('an answer was not sent', { error: reasonOf(error) });
      });
    }),
  );
}
