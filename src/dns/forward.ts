// Queries about names that the mesh does not know, given on to the servers of ztunnel's own resolv.conf (ztunnel.md §10.4):
// as the asker sent them, over the transport the asker chose, so the answer is the one it would have had without us.

import type { SocketAddress } from '#net/host-port.ts';
import { isLoopback } from '#net/ip.ts';
import type { Query } from './message.ts';
import type { ResolverSettings } from './resolv-conf.ts';
import type { UpstreamSockets } from './sockets.ts';
import { exchangeTcp } from './tcp-exchange.ts';
import { type Exchange, exchangeUdp, noAnswer } from './udp-exchange.ts';

export type Protocol = 'udp' | 'tcp';

/** Nobody waits longer, whatever resolv.conf allows. */
const MOST_MS = 10_000;

/** One pod's way to other servers. */
export class Forwarder {
  readonly #sockets: UpstreamSockets;
  readonly #settings: ResolverSettings;
  readonly #running = new Set<Exchange>();
  /** The server that answered last is asked first: a dead one delays one query, not all. */
  #first = 0;
  #closed = false;

  constructor(sockets: UpstreamSockets, settings: ResolverSettings) {
    this.#sockets = sockets;
    this.#settings = settings;
  }

  /** The other server's answer, under an id of its own. Rejects with MeshError `DNS_NO_ANSWER`. */
  async ask(query: Query, protocol: Protocol): Promise<Buffer> {
    const { servers, attempts, timeoutMs, rotate } = this.#settings;
    if (this.#closed) throw noAnswer(query, 'the pod was removed');
    if (servers.length === 0) throw noAnswer(query, "ztunnel's resolv.conf names no server");
    const exchange = (protocol === 'udp' ? exchangeUdp : exchangeTcp)(this.#sockets, query, {
      servers: fromIndex(servers, this.#first),
      attempts,
      deadlineMs: Math.min(timeoutMs * attempts, MOST_MS),
    });
    this.#running.add(exchange);
    try {
      const { response, server } = await exchange.result;
      this.#first = (servers.indexOf(server) + (rotate ? 1 : 0)) % servers.length;
      return response;
    } finally {
      this.#running.delete(exchange);
    }
  }

  /** Everything under way is given up. */
  close(): void {
    this.#closed = true;
    for (const exchange of [...this.#running]) exchange.cancel();
  }
}

function fromIndex<T>(items: readonly T[], index: number): T[] {
  return [...items.slice(index), ...items.slice(0, index)];
}

/** A loopback address of ztunnel's own resolv.conf means ztunnel's network; in a pod nobody would be there. */
export function isInOwnNetwork(server: SocketAddress): boolean {
  return isLoopback(server.ip);
}
